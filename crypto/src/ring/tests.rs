use super::*;
use alloc::{format, string::ToString, vec};

fn widths() -> impl Iterator<Item = RingWidth> {
    (8..=32).map(|bits| RingWidth::new(bits).unwrap())
}

/// Weyl sequence: fills all 32 bits, no generator needed.
fn elements(count: usize) -> Vec<u32> {
    (1..=count as u32).map(|i| i.wrapping_mul(0x9e37_79b9) ^ (i << 7)).collect()
}

/// The definition, one bit at a time.
fn packed_by_definition(width: RingWidth, values: &[u32]) -> Vec<u8> {
    let w = width.bits() as usize;
    let mut out = vec![0u8; (values.len() * w).div_ceil(8)];
    for (i, value) in values.iter().enumerate() {
        for bit in 0..w {
            let at = i * w + bit;
            out[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
        }
    }
    out
}

#[test]
fn packing_is_its_definition_at_every_width_and_length() {
    for width in widths() {
        for count in (0..=70).chain([256, 1000]) {
            let values = elements(count);
            let mut packed = vec![0xee];
            pack(width, &values, &mut packed);
            assert_eq!(packed[0], 0xee, "appends");
            assert_eq!(packed[1..], packed_by_definition(width, &values), "{width} x {count}");
            assert_eq!(packed.len() - 1, width.packed_len(count));

            let mut back = vec![7];
            unpack(width, &packed[1..], count, &mut back).unwrap();
            let reduced: Vec<u32> = values.iter().map(|v| v & width.mask()).collect();
            assert_eq!(back[1..], reduced);

            let mut sum = elements(count);
            unpack_add(width, &packed[1..], &mut sum).unwrap();
            for ((sum, value), reduced) in sum.iter().zip(&values).zip(&reduced) {
                assert_eq!(*sum, value.wrapping_add(*reduced));
            }
        }
    }
}

#[test]
fn however_many_vectors_are_added_at_once_the_sum_is_one() {
    for width in widths() {
        for count in [0, 1, 7, 8, 9, 64, 70, 1000] {
            let packed: Vec<Vec<u8>> = (0..11u32)
                .map(|i| {
                    let values: Vec<u32> = elements(count).iter().map(|v| v.rotate_left(i)).collect();
                    let mut packed = Vec::new();
                    pack(width, &values, &mut packed);
                    packed
                })
                .collect();
            let mut expected = elements(count);
            packed.iter().for_each(|one| unpack_add(width, one, &mut expected).unwrap());
            for together in 1..=11 {
                let mut sum = elements(count);
                for some in packed.chunks(together) {
                    let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
                    unpack_add_all(width, &some, &mut sum).unwrap();
                }
                assert_eq!(sum, expected, "{width} x {count}, {together} at once");
            }
        }
    }
}

#[test]
fn one_bad_vector_among_many_leaves_the_sum_as_it_was() {
    let width = RingWidth::new(12).unwrap();
    let (good, short) = (vec![1; 15], vec![1; 14]);
    let mut sum = vec![5; 10];
    let refused = unpack_add_all(width, &[&good, &good, &good, &good, &short], &mut sum);
    assert_eq!(refused, Err(RingError::PackedLength { expected: 15, got: 14 }));
    assert_eq!(sum, [5; 10]);
}

#[test]
fn a_packed_vector_has_one_spelling() {
    for width in widths() {
        for count in 1..=9 {
            let mut packed = Vec::new();
            pack(width, &vec![0; count], &mut packed);
            let used = count * width.bits() as usize;
            for bit in used..packed.len() * 8 {
                let mut bent = packed.clone();
                bent[bit / 8] |= 1 << (bit % 8);
                assert_eq!(unpack(width, &bent, count, &mut Vec::new()), Err(RingError::Padding));
                assert_eq!(unpack_add(width, &bent, &mut vec![0; count]), Err(RingError::Padding));
            }
            let expected = packed.len();
            let got = expected + 1;
            packed.push(0);
            let wrong = Err(RingError::PackedLength { expected, got });
            assert_eq!(unpack(width, &packed, count, &mut Vec::new()), wrong);
            packed.truncate(expected - 1);
            assert!(unpack(width, &packed, count, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn widths_outside_the_range_are_refused_by_name() {
    for bits in [0, 7, 33, 64, 264, u32::MAX] {
        let error = RingWidth::new(bits).unwrap_err();
        assert_eq!(error, RingError::Width { bits });
        assert!(error.to_string().contains(&format!("{bits} is outside 8..=32")));
    }
    assert_eq!(RingWidth::new(8).unwrap().mask(), 0xff);
    assert_eq!(RingWidth::new(32).unwrap().mask(), u32::MAX);
}

#[test]
fn a_ring_vector_holds_reduced_elements_and_prints_none() {
    let width = RingWidth::new(12).unwrap();
    let error = RingVector::new(width, vec![1, 4095, 4096]).unwrap_err();
    assert_eq!(error, RingError::Element { index: 2, width });
    let vector = RingVector::new(width, vec![1, 4095, 777]).unwrap();
    assert_eq!(format!("{vector:?}"), "RingVector(3 elements of 2^12, <redacted>)");
    assert_eq!(vector.into_values(), [1, 4095, 777]);
    assert_eq!(RingVector::reduced(width, vec![4097]).values(), [1]);
    assert_eq!(RingVector::zeros(width, 2).values(), [0, 0]);
}
