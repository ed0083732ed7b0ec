//! Which records are computed together, and in which shapes.
//!
//! Texts are short and of all lengths, so padding every one to a common length would double the work. Instead the tokens of
//! several texts are laid one after the other into a **block** of a fixed number of rows; everything but attention treats each row
//! by itself. Attention takes the texts of a block in **groups** of one padded length each. (The same idea as "unpadding" in fast
//! BERT implementations, e.g. Portes et al., 2023.)
//!
//! A block's size and a text's padded length in attention follow from that text's own length. So the shapes in which a record is
//! computed say nothing about, and take nothing from, the other records of a lot: only its place in the block differs.

/// Rows of a block. More fill the processor's matrix kernels better (from 128 to 256: a tenth), fewer waste less in a small lot's last block.
const ROWS: usize = 192;
/// Rows of a block without a token axis (the head on pooled states).
const POOLED_ROWS: usize = 32;
/// Padded lengths in attention; beyond them, multiples of 128.
const LENGTHS: [usize; 20] =
    [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512];

/// Records that are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Rows that are computed; at least one more than the records have tokens, so that the last row is always filler.
    pub(super) rows: usize,
    /// Places for records in what comes after pooling, at least as many as `records`.
    pub(super) places: usize,
    /// What is in the first rows, shortest first.
    pub(super) records: Vec<usize>,
}

/// The padded length in attention of a text of `tokens` tokens.
pub(super) fn padded_length(tokens: usize) -> usize {
    LENGTHS.into_iter().find(|&length| length >= tokens).unwrap_or_else(|| tokens.next_multiple_of(128))
}

/// The smallest block for a text of `tokens` tokens.
fn block_rows(tokens: usize) -> usize {
    (tokens + 1).next_multiple_of(ROWS)
}

/// Lays records into blocks of fixed shape. `tokens(record)` is a record's length, at least 1.
pub(super) fn fixed(records: &[usize], tokens: &dyn Fn(usize) -> usize) -> Vec<Block> {
    let mut sorted: Vec<(usize, usize)> = records.iter().map(|&record| (tokens(record), record)).collect();
    sorted.sort_by_key(|&(tokens, _)| tokens);
    let mut blocks: Vec<Block> = Vec::new();
    let mut used = 0;
    for (tokens, record) in sorted {
        let rows = block_rows(tokens);
        let places = rows / 4;
        match blocks.last_mut() {
            Some(last) if last.rows == rows && used + tokens < rows && last.records.len() < places => {
                last.records.push(record);
                used += tokens;
            }
            _ => {
                blocks.push(Block { rows, places, records: vec![record] });
                used = tokens;
            }
        }
    }
    blocks
}

/// The same, with the empty rows cut off: for ordinary training, where nobody's privacy hangs on the shape.
pub(super) fn snug(records: &[usize], tokens: &dyn Fn(usize) -> usize) -> Vec<Block> {
    let mut blocks = fixed(records, tokens);
    for block in &mut blocks {
        block.rows = block.records.iter().map(|&record| tokens(record)).sum::<usize>() + 1;
        block.places = block.records.len();
    }
    blocks
}

/// Lays records that are one vector each into blocks of fixed shape.
pub(super) fn pooled(records: &[usize]) -> Vec<Block> {
    let block = |part: &[usize]| Block { rows: POOLED_ROWS, places: POOLED_ROWS, records: part.to_vec() };
    records.chunks(POOLED_ROWS).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_shapes_do_not_depend_on_the_others() {
        let lengths = [5, 9, 9, 13, 30, 64, 9, 191, 192, 700];
        let rows_of = |records: &[usize], record| {
            let blocks = fixed(records, &|r| lengths[r]);
            let block = blocks.into_iter().find(|b| b.records.contains(&record)).unwrap();
            (block.rows, block.places)
        };
        let all: Vec<usize> = (0..lengths.len()).collect();
        for record in 0..lengths.len() {
            assert_eq!(rows_of(&[record], record), rows_of(&all, record));
        }
        assert_eq!(rows_of(&all, 7), (192, 48));
        assert_eq!(rows_of(&all, 8), (384, 96));
        assert_eq!(rows_of(&all, 9), (768, 192));
    }

    #[test]
    fn every_record_is_in_one_block_and_the_last_row_is_free() {
        let records: Vec<usize> = (0..300).collect();
        for longest in [2, 30, 126] {
            let tokens = |r: usize| 1 + r * 7 % longest;
            for blocks in [fixed(&records, &tokens), snug(&records, &tokens)] {
                let mut seen: Vec<usize> = blocks.iter().flat_map(|b| b.records.clone()).collect();
                seen.sort_unstable();
                assert_eq!(seen, records);
                for block in blocks {
                    let used: usize = block.records.iter().map(|&r| tokens(r)).sum();
                    assert!(used < block.rows && block.records.len() <= block.places);
                    assert!(block.records.is_sorted_by_key(|&r| tokens(r)));
                }
            }
        }
    }

    #[test]
    fn attention_pads_little() {
        assert_eq!([1, 4, 5, 64, 65, 512, 513].map(padded_length), [4, 4, 8, 64, 80, 512, 640]);
    }
}
