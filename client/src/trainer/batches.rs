//! Micro-batches of fixed shapes.
//!
//! A record's padded length is a function of its own length; how many rows a micro-batch has is a function of that length.
//! So the shape in which a record is computed says nothing about, and takes nothing from, the other records of a lot.
//! About [`TOKENS`] tokens fill one core's matrix product (measured: from 64 rows on nothing is gained), and small batches
//! waste few rows: with lots of 100 short texts, 1.2 padded tokens are computed for every real one.

/// Tokens of a micro-batch, about.
const TOKENS: usize = 64;
/// Most rows of a micro-batch that has no token axis (the head on pooled states).
const POOLED_ROWS: usize = 32;
/// Padded lengths; beyond them, multiples of 128.
const LENGTHS: [usize; 20] =
    [8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512];

/// Records that are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MicroBatch {
    /// Padded length in tokens.
    pub(super) length: usize,
    /// Rows that are computed, at least as many as `records`.
    pub(super) rows: usize,
    /// What is in the first rows.
    pub(super) records: Vec<usize>,
}

/// The padded length for a text of `tokens` tokens in a model with `most` positions.
pub(super) fn padded_length(tokens: usize, most: usize) -> usize {
    let length =
        LENGTHS.into_iter().find(|&length| length >= tokens).unwrap_or_else(|| tokens.next_multiple_of(128));
    length.min(most.max(tokens))
}

/// Groups records into micro-batches of fixed shape, shortest first.
/// `tokens(record)` is a record's length, `most` the model's longest text.
pub(super) fn fixed(records: &[usize], tokens: &dyn Fn(usize) -> usize, most: usize) -> Vec<MicroBatch> {
    let mut sorted: Vec<(usize, usize)> =
        records.iter().map(|&record| (padded_length(tokens(record), most), record)).collect();
    sorted.sort_by_key(|&(length, _)| length);
    let mut batches = Vec::new();
    for same in sorted.chunk_by(|x, y| x.0 == y.0) {
        let length = same[0].0;
        let rows = (TOKENS / length).max(1);
        for part in same.chunks(rows) {
            batches.push(MicroBatch {
                length,
                rows,
                records: part.iter().map(|&(_, record)| record).collect(),
            });
        }
    }
    batches
}

/// Groups records that are one vector each into micro-batches of fixed shape.
pub(super) fn pooled(records: &[usize]) -> Vec<MicroBatch> {
    let batch = |part: &[usize]| MicroBatch { length: 1, rows: POOLED_ROWS, records: part.to_vec() };
    records.chunks(POOLED_ROWS).map(batch).collect()
}

/// Groups records for ordinary training, where nobody's privacy hangs on the shape: neighbours in length together, no filled-up rows.
pub(super) fn snug(records: &[usize], tokens: &dyn Fn(usize) -> usize, most: usize) -> Vec<MicroBatch> {
    const ROWS: usize = 16;
    let mut sorted: Vec<usize> = records.to_vec();
    sorted.sort_by_key(|&record| tokens(record));
    sorted
        .chunks(ROWS)
        .map(|part| {
            let longest = part.iter().map(|&record| tokens(record)).max().unwrap_or(1);
            MicroBatch {
                length: longest.next_multiple_of(2).min(most.max(longest)),
                rows: part.len(),
                records: part.to_vec(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_shape_does_not_depend_on_the_others() {
        let lengths = [5, 9, 9, 13, 30, 64, 9, 700];
        let shape_of = |records: &[usize], record| {
            let batches = fixed(records, &|r| lengths[r], 1000);
            let batch = batches.iter().find(|b| b.records.contains(&record)).unwrap();
            (batch.length, batch.rows)
        };
        let all: Vec<usize> = (0..lengths.len()).collect();
        for record in 0..lengths.len() {
            assert_eq!(shape_of(&[record], record), shape_of(&all, record));
        }
        assert_eq!(shape_of(&[0], 0), (8, 8));
        assert_eq!(shape_of(&[7], 7), (768, 1));
    }

    #[test]
    fn every_record_is_in_one_batch_and_fits() {
        let records: Vec<usize> = (0..300).collect();
        let tokens = |r: usize| 3 + r * 7 % 126;
        for batches in [fixed(&records, &tokens, 128), snug(&records, &tokens, 128)] {
            let mut seen: Vec<usize> = batches.iter().flat_map(|b| b.records.clone()).collect();
            seen.sort_unstable();
            assert_eq!(seen, records);
            for batch in batches {
                assert!(batch.records.len() <= batch.rows);
                assert!(batch.records.iter().all(|&r| tokens(r) <= batch.length));
                assert!(batch.length <= 128);
            }
        }
    }

    #[test]
    fn padding_stays_within_the_models_positions() {
        assert_eq!(padded_length(509, 510), 510);
        assert_eq!(padded_length(10, 11), 11);
        assert_eq!(padded_length(3, 512), 8);
    }
}
