//! Which records are computed together, and in which shapes.
//!
//! Texts are short and of all lengths, so padding every one to a common length would double the work. Instead the tokens of
//! several texts are laid one after the other into a **block** of a fixed number of rows; everything but attention treats each row
//! by itself. Attention takes the texts of a block in **groups** of one padded length each. (The same idea as "unpadding" in fast
//! BERT implementations, e.g. Portes et al., 2023.)
//!
//! A block's size and a text's padded length in attention follow from that text's own length. So the shapes in which a record is
//! computed say nothing about, and take nothing from, the other records of a lot: only its place in the block differs.

/// The shape of blocks, which a lot does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Rows of a block. More fill the processor's matrix kernels better (from 128 to 256: a tenth), fewer waste less in a small lot's
    /// last block.
    pub(super) rows: usize,
    /// Most records of a block, whose gradients are in memory together. Fewer make more blocks of the same shape.
    pub(super) records: usize,
}

impl Shape {
    /// For short texts.
    pub(super) const ENCODER: usize = 192;
    /// Eight texts of 64 tokens and the row of filler.
    pub(super) const DECODER: usize = 520;
}

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

/// Lays records into blocks of fixed shape. `tokens(record)` is a record's length, at least 1.
pub(super) fn fixed(shape: Shape, records: &[usize], tokens: &dyn Fn(usize) -> usize) -> Vec<Block> {
    let mut sorted: Vec<(usize, usize)> = records.iter().map(|&record| (tokens(record), record)).collect();
    sorted.sort_by_key(|&(tokens, _)| tokens);
    let mut blocks: Vec<Block> = Vec::new();
    let mut used = 0;
    for (tokens, record) in sorted {
        // The smallest block for this text.
        let rows = (tokens + 1).next_multiple_of(shape.rows);
        let places = rows / 4;
        let most = places.min(shape.records.max(1));
        match blocks.last_mut() {
            Some(last) if last.rows == rows && used + tokens < rows && last.records.len() < most => {
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
pub(super) fn snug(shape: Shape, records: &[usize], tokens: &dyn Fn(usize) -> usize) -> Vec<Block> {
    let mut blocks = fixed(shape, records, tokens);
    for block in &mut blocks {
        block.rows = block.records.iter().map(|&record| tokens(record)).sum::<usize>() + 1;
        block.places = block.records.len();
    }
    blocks
}

/// Lays records that are one vector each into blocks of fixed shape.
pub(super) fn pooled(shape: Shape, records: &[usize]) -> Vec<Block> {
    let block = |part: &[usize]| Block { rows: POOLED_ROWS, places: POOLED_ROWS, records: part.to_vec() };
    records.chunks(POOLED_ROWS.min(shape.records.max(1))).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { rows: Shape::ENCODER, records: usize::MAX };

    #[test]
    fn a_records_shapes_do_not_depend_on_the_others() {
        let lengths = [5, 9, 9, 13, 30, 64, 9, 191, 192, 700];
        let rows_of = |records: &[usize], record| {
            let blocks = fixed(SHAPE, records, &|r| lengths[r]);
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
            for blocks in [fixed(SHAPE, &records, &tokens), snug(SHAPE, &records, &tokens)] {
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
    fn fewer_records_together_change_no_shape() {
        let records: Vec<usize> = (0..100).collect();
        let tokens = |r: usize| 4 + r % 9;
        let shapes = |most| {
            let blocks = fixed(Shape { records: most, ..SHAPE }, &records, &tokens);
            assert!(blocks.iter().all(|block| (1..=most).contains(&block.records.len())));
            blocks.into_iter().map(|block| (block.rows, block.places)).collect::<Vec<_>>()
        };
        for most in [1, 3, 48] {
            assert!(shapes(most).iter().all(|&shape| shape == (192, 48)));
            assert!(pooled(Shape { records: most, ..SHAPE }, &records).iter().all(|b| b.rows == POOLED_ROWS));
        }
        // Eight texts of 64 tokens fill one block of a decoder's.
        let decoder = Shape { rows: Shape::DECODER, records: usize::MAX };
        assert_eq!(fixed(decoder, &records[..8], &|_| 64).len(), 1);
    }

    #[test]
    fn attention_pads_little() {
        assert_eq!([1, 4, 5, 64, 65, 512, 513].map(padded_length), [4, 4, 8, 64, 80, 512, 640]);
    }
}
