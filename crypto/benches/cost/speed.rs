//! How fast masked inputs are summed, beside how fast the same bytes can be read.

use std::hint::black_box;

use consilium_crypto::ring::{self, RingWidth, STREAMS};

use crate::{
    RUNS, Result,
    clock::{median, seconds},
    cohort::Cohort,
};

/// Bytes a second of summing ÷ bytes a second of reading, over all survivors' chunks, in the coordinator's order.
pub fn sum_vs_read(cohort: &Cohort) -> Result<f64> {
    println!("\nsumming masked inputs, {} of {} elements:", cohort.shape.survivors(), cohort.shape.dimension);
    let chunks = chunks_in_order(cohort);
    let mut row = f64::NAN;
    for bits in [16, 20, 21, 24, 32] {
        let width = RingWidth::new(bits)?;
        let (mut ratios, mut rates) = (Vec::new(), Vec::new());
        let mut sum = vec![0u32; 1 << 17];
        for _ in 0..RUNS {
            let read = seconds(|| {
                chunks.iter().for_each(|chunk| {
                    black_box(read(chunk));
                })
            });
            let mut bytes = 0;
            let summing = seconds(|| {
                for (some, first) in chunks.chunks(STREAMS).zip((0..).step_by(STREAMS)) {
                    // The chunks' bytes as elements of this width, whatever they were packed from.
                    let elements = some[0].len() / bits as usize * 8;
                    let packed: Vec<&[u8]> =
                        some.iter().map(|chunk| &chunk[..width.packed_len(elements)]).collect();
                    bytes += packed.iter().map(|packed| packed.len()).sum::<usize>();
                    let summed = ring::unpack_add_all(width, &packed, &mut sum[..elements]);
                    assert!(summed.is_ok(), "chunk {first}");
                }
            });
            let all: usize = chunks.iter().map(|chunk| chunk.len()).sum();
            rates.push(bytes as f64 / summing / 1e9);
            ratios.push((bytes as f64 / summing) / (all as f64 / read));
        }
        let (ratio, rate) = (median(ratios), median(rates));
        println!("    {bits} bits   {rate:>6.2} GB/s packed, {ratio:>5.2} of reading");
        if bits == cohort.shape.bits {
            row = ratio;
        }
    }
    Ok(row)
}

fn chunks_in_order(cohort: &Cohort) -> Vec<&[u8]> {
    let count = cohort.attempt.params().chunk_count() as usize;
    let survivors = cohort.shape.survivors();
    (0..count).flat_map(|index| (0..survivors).map(move |i| cohort.vectors.chunk(i, index))).collect()
}

/// Every byte read once, as 64-bit words.
fn read(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0;
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}
