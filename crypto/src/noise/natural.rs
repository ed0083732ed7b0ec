//! Natural numbers of any size, as few operations as the exact comparison needs.
//!
//! Schoolbook methods on little-endian 64-bit limbs without leading zeros. Not constant-time, and run so
//! rarely that speed does not matter.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// A natural number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Natural(Vec<u64>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        Self(alloc::vec![value]).trimmed()
    }
}

impl Natural {
    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Position of the highest set bit, plus one.
    pub(super) fn bit_length(&self) -> u32 {
        self.0.last().map_or(0, |top| self.0.len() as u32 * 64 - top.leading_zeros())
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        let mut carry = false;
        let length = self.0.len().max(other.0.len());
        let mut limbs: Vec<u64> = (0..length)
            .map(|i| {
                let (sum, first) = self.limb(i).overflowing_add(other.limb(i));
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                sum
            })
            .collect();
        limbs.push(u64::from(carry));
        Self(limbs).trimmed()
    }

    /// The difference, or 0 if it would be negative.
    pub(super) fn saturating_sub(&self, other: &Self) -> Self {
        if self <= other {
            return Self(Vec::new());
        }
        let mut borrow = false;
        let limbs = (0..self.0.len())
            .map(|i| {
                let (rest, first) = self.limb(i).overflowing_sub(other.limb(i));
                let (rest, second) = rest.overflowing_sub(u64::from(borrow));
                borrow = first || second;
                rest
            })
            .collect();
        Self(limbs).trimmed()
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        let mut limbs = alloc::vec![0u64; self.0.len() + other.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u128;
            for (limb, j) in limbs.iter_mut().skip(i).zip(0..=other.0.len()) {
                let sum = u128::from(*limb) + u128::from(a) * u128::from(other.limb(j)) + carry;
                *limb = sum as u64;
                carry = sum >> 64;
            }
        }
        Self(limbs).trimmed()
    }

    pub(super) fn shl(&self, bits: u32) -> Self {
        let (words, bits) = ((bits / 64) as usize, bits % 64);
        let mut limbs = alloc::vec![0u64; words];
        let mut carry = 0u64;
        for &limb in &self.0 {
            let wide = (u128::from(limb) << bits) | u128::from(carry);
            limbs.push(wide as u64);
            carry = (wide >> 64) as u64;
        }
        limbs.push(carry);
        Self(limbs).trimmed()
    }

    /// Divided by `2^bits`, rounded down.
    pub(super) fn shr(&self, bits: u32) -> Self {
        let (words, bits) = ((bits / 64) as usize, bits % 64);
        let limbs = (words..self.0.len())
            .map(|i| {
                let wide = (u128::from(self.limb(i + 1)) << 64) | u128::from(self.limb(i));
                (wide >> bits) as u64
            })
            .collect();
        Self(limbs).trimmed()
    }

    /// The quotient, rounded down, one bit at a time unless the divisor has one limb. Division by 0 gives 0.
    pub(super) fn div(&self, divisor: &Self) -> Self {
        if let [limb] = divisor.0.as_slice() {
            return self.div_limb(*limb);
        }
        let mut quotient = alloc::vec![0u64; self.0.len()];
        let mut rest = Self(Vec::new());
        if divisor.is_zero() {
            return rest;
        }
        for (i, limb) in quotient.iter_mut().enumerate().rev() {
            for bit in (0..64).rev() {
                rest = rest.shl(1).add(&Self::from((self.limb(i) >> bit) & 1));
                if rest >= *divisor {
                    rest = rest.saturating_sub(divisor);
                    *limb |= 1 << bit;
                }
            }
        }
        Self(quotient).trimmed()
    }

    fn div_limb(&self, divisor: u64) -> Self {
        let mut quotient = self.0.clone();
        let mut rest = 0u128;
        for limb in quotient.iter_mut().rev() {
            let wide = (rest << 64) | u128::from(*limb);
            // The rest is below the divisor, so the quotient fits a limb; the divisor is not 0.
            *limb = wide.checked_div(u128::from(divisor)).unwrap_or(0) as u64;
            rest = wide.checked_rem(u128::from(divisor)).unwrap_or(0);
        }
        Self(quotient).trimmed()
    }

    fn limb(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn natural(value: u128) -> Natural {
        Natural::from((value >> 64) as u64).shl(64).add(&Natural::from(value as u64))
    }

    #[test]
    fn it_agrees_with_machine_integers() {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..500 {
            let (a, b) = (next() >> (round % 60), next() >> (round % 7) | 1);
            let (wa, wb) = (u128::from(a) << (round % 60), u128::from(b));
            assert_eq!(natural(wa).add(&natural(wb)), natural(wa + wb));
            assert_eq!(natural(a.into()).mul(&natural(wb)), natural(u128::from(a) * wb));
            assert_eq!(natural(wa).div(&natural(wb)), natural(wa / wb));
            assert_eq!(natural(wa).div(&natural(wb << 50)), natural(wa / (wb << 50)));
            assert_eq!(natural(wa).saturating_sub(&natural(wb)), natural(wa.saturating_sub(wb)));
            assert_eq!(natural(wa).cmp(&natural(wb)), wa.cmp(&wb));
            assert_eq!(natural(wa).shr(round % 128), natural(wa >> (round % 128)));
            assert_eq!(natural(a.into()).shl(round % 64), natural(u128::from(a) << (round % 64)));
            assert_eq!(natural(wa).bit_length(), 128 - wa.leading_zeros());
        }
    }

    #[test]
    fn long_division_undoes_long_multiplication() {
        let a = natural(u128::MAX).mul(&natural(u128::MAX - 158)).mul(&natural(12_345));
        let b = natural(u128::MAX - 158).mul(&natural(12_345));
        assert_eq!(a.div(&b), natural(u128::MAX));
        assert_eq!(a.add(&b).saturating_sub(&Natural::from(1)).div(&b), natural(u128::MAX));
        assert!(a.div(&Natural::from(0)).is_zero());
    }
}
