//! The numbers of an attempt, checked against each other.

use core::fmt;

use super::CHUNK_ELEMENTS;
use crate::ring::RingWidth;

/// Cohort size, quorum and vector shape of an attempt. All from the job plan; none from who turned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    n: u16,
    t_c: u16,
    m_min: u16,
    ring: RingWidth,
    dimension: u32,
}

impl Params {
    /// Smallest cohort.
    pub const MIN_COHORT: u16 = 3;
    /// Largest cohort. Rosters allow a tenth of it, except to simulations.
    pub const MAX_COHORT: u16 = 10_000;

    /// Checks the numbers of an attempt: `n` members, of whom up to `t_c` may collude with the coordinator;
    /// at least `m_min` survivors; vectors of `dimension` elements of `ring`.
    ///
    /// # Errors
    ///
    /// When `n` is outside 3..=10000, the quorum exceeds `n`, `m_min` is outside quorum..=`n`, fewer than two
    /// honest contributors are guaranteed, or `dimension` is zero.
    pub fn new(n: u16, t_c: u16, m_min: u16, ring: RingWidth, dimension: u32) -> Result<Self, ParamsError> {
        let params = Self { n, t_c, m_min, ring, dimension };
        let quorum = params.quorum();
        if !(Self::MIN_COHORT..=Self::MAX_COHORT).contains(&n) {
            return Err(ParamsError::Cohort { n });
        }
        if quorum > n {
            return Err(ParamsError::Colluders { n, t_c });
        }
        if !(quorum..=n).contains(&m_min) {
            return Err(ParamsError::Survivors { m_min, quorum, n });
        }
        if params.honest() < 2 {
            return Err(ParamsError::Honest { m_min, t_c });
        }
        if dimension == 0 {
            return Err(ParamsError::Dimension);
        }
        Ok(params)
    }

    /// The default number of colluders to withstand: `max(1, (n - 1) / 3)`.
    pub const fn default_colluders(n: u16) -> u16 {
        let third = n.saturating_sub(1) / 3;
        if third == 0 { 1 } else { third }
    }

    /// Cohort size `n`.
    pub const fn n(&self) -> u16 {
        self.n
    }

    /// Colluders withstood, `t_c`.
    pub const fn colluders(&self) -> u16 {
        self.t_c
    }

    /// The quorum `r = (n + t_c) / 2 + 1`, rounded down before the one is added: votes that settle a survivor
    /// set, and shares that give a secret back. Two different sets would need `2r > n + t_c` votes, more than
    /// honest members voting once and colluders voting twice can cast.
    pub const fn quorum(&self) -> u16 {
        // Cannot wrap: both fit 16 bits.
        ((self.n as u32 + self.t_c as u32) / 2 + 1) as u16
    }

    /// Fewest survivors a client accepts, `m_min`. Also the fewest adverts and dealers.
    pub const fn m_min(&self) -> u16 {
        self.m_min
    }

    /// Honest contributors guaranteed among the survivors: `h = m_min - max(t_c, 1)`. One curious member is
    /// always assumed, since each sees the sum and knows its own part.
    pub const fn honest(&self) -> u16 {
        self.m_min.saturating_sub(if self.t_c == 0 { 1 } else { self.t_c })
    }

    /// How many *other* members must say what they hold of a member, so that whatever it last said is among it:
    /// `max(m_min − 1, n − m_min + max(t_c, 1))`, at most `n − 1`.
    ///
    /// Who held shares in an attempt had seen `m_min` members' deals, each made after its member had kept everybody's
    /// adverts. So, not counting the member itself nor the `t_c − 1` others that may be corrupt beside it (restored from an
    /// old copy, it counts among the `t_c`), at least `m_min − t_c` of the `n − t_c` honest others hold its advert. Of `s` who
    /// speak, at least `s − t_c + 1` are honest. Some honest one speaks and holds it as soon as
    /// `(m_min − t_c) + (s − t_c + 1) > n − t_c`, that is `s ≥ n − m_min + t_c`. And `m_min − 1` others are there whenever an
    /// attempt can succeed, so asking for as many costs nothing.
    pub const fn witnesses(&self) -> u16 {
        let corrupt = if self.t_c == 0 { 1 } else { self.t_c };
        let least = (self.n - self.m_min).saturating_add(corrupt);
        if least > self.m_min - 1 { least } else { self.m_min - 1 }
    }

    /// The ring the vectors live in.
    pub const fn ring(&self) -> RingWidth {
        self.ring
    }

    /// Elements in a vector.
    pub const fn dimension(&self) -> u32 {
        self.dimension
    }

    /// Chunks a vector is sent in.
    pub const fn chunk_count(&self) -> u32 {
        self.dimension.div_ceil(CHUNK_ELEMENTS as u32)
    }

    /// Elements in chunk `index`; zero beyond the last.
    pub const fn chunk_elements(&self, index: u32) -> usize {
        let before = index as u64 * CHUNK_ELEMENTS as u64;
        let left = (self.dimension as u64).saturating_sub(before);
        if left < CHUNK_ELEMENTS as u64 { left as usize } else { CHUNK_ELEMENTS }
    }

    /// Packed bytes of chunk `index`; zero beyond the last.
    pub const fn chunk_len(&self, index: u32) -> usize {
        self.ring.packed_len(self.chunk_elements(index))
    }

    /// Packed bytes of a whole vector: the sum of its chunks.
    pub const fn total_len(&self) -> u64 {
        let last = self.chunk_count() - 1;
        last as u64 * self.ring.packed_len(CHUNK_ELEMENTS) as u64 + self.chunk_len(last) as u64
    }
}

/// Numbers that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// A cohort outside 3..=10000.
    Cohort {
        /// Cohort size.
        n: u16,
    },
    /// More colluders than any quorum withstands.
    Colluders {
        /// Cohort size.
        n: u16,
        /// Colluders.
        t_c: u16,
    },
    /// `m_min` below the quorum or above the cohort.
    Survivors {
        /// Fewest survivors.
        m_min: u16,
        /// Quorum.
        quorum: u16,
        /// Cohort size.
        n: u16,
    },
    /// Fewer than two honest contributors: one could be told from the sum.
    Honest {
        /// Fewest survivors.
        m_min: u16,
        /// Colluders.
        t_c: u16,
    },
    /// An empty vector.
    Dimension,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cohort { n } => write!(f, "cohort size n = {n} is outside 3..=10000"),
            Self::Colluders { n, t_c } => write!(
                f,
                "t_c = {t_c} colluders of n = {n} leave no possible quorum; lower t_c or enlarge the cohort"
            ),
            Self::Survivors { m_min, quorum, n } => {
                write!(f, "fewest survivors m_min = {m_min} is outside quorum..=n, {quorum}..={n}")
            }
            Self::Honest { m_min, t_c } => write!(
                f,
                "m_min = {m_min} with t_c = {t_c} guarantees fewer than two honest contributors; raise m_min"
            ),
            Self::Dimension => f.write_str("dimension is zero; there is nothing to sum"),
        }
    }
}

impl core::error::Error for ParamsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> RingWidth {
        RingWidth::new(20).unwrap()
    }

    /// The table of the design: n, t_c, r, dropouts, h.
    #[test]
    fn the_written_table_holds() {
        for (n, t_c, r, dropouts, h) in [
            (3, 1, 3, 0, 2),
            (4, 1, 3, 1, 2),
            (5, 1, 4, 1, 3),
            (10, 3, 7, 3, 4),
            (30, 9, 20, 10, 11),
            (100, 33, 67, 33, 34),
            (1000, 333, 667, 333, 334),
        ] {
            assert_eq!(Params::default_colluders(n), t_c);
            let params = Params::new(n, t_c, r, ring(), 1).unwrap();
            assert_eq!((params.quorum(), n - params.quorum(), params.honest()), (r, dropouts, h));
        }
    }

    /// For every cohort and every number of colluders: two survivor sets cannot both find a quorum, and where
    /// parameters are accepted the quorum can be reached.
    #[test]
    fn two_quorums_need_more_votes_than_there_are() {
        for n in Params::MIN_COHORT..=Params::MAX_COHORT {
            for t_c in 0..=n {
                let r = (u32::from(n) + u32::from(t_c)) / 2 + 1;
                assert!(2 * r > u32::from(n) + u32::from(t_c));
                if let Ok(params) = Params::new(n, t_c, n, ring(), 1) {
                    assert_eq!(u32::from(params.quorum()), r);
                    assert!(r <= u32::from(n) && params.honest() >= 2);
                }
            }
        }
    }

    /// For every plan of up to forty members: however the holders of a member's last advert and those who speak are chosen,
    /// one honest member is both, and there are enough others to speak.
    #[test]
    fn enough_witnesses_include_an_honest_holder() {
        for n in 3..=40u16 {
            for t_c in 0..n {
                for m_min in 1..=n {
                    let Ok(params) = Params::new(n, t_c, m_min, ring(), 1) else { continue };
                    let s = params.witnesses();
                    assert!(s < n, "{params:?}");
                    assert!(t_c == 0 || s < m_min, "no more than an attempt needs anyway: {params:?}");
                    // Corrupt among the others, the restored member being one of the t_c; both sets avoid the honest.
                    let corrupt = t_c.max(1) - 1;
                    let (holders, honest) = (m_min - 1 - corrupt, n - 1 - corrupt);
                    assert!(holders + (s - corrupt) > honest, "{params:?}");
                }
            }
        }
    }

    #[test]
    fn impossible_numbers_are_refused_by_name() {
        let refused = |n, t_c, m_min, dimension| Params::new(n, t_c, m_min, ring(), dimension);
        assert_eq!(refused(2, 0, 2, 1), Err(ParamsError::Cohort { n: 2 }));
        assert_eq!(refused(10_001, 1, 6_000, 1), Err(ParamsError::Cohort { n: 10_001 }));
        assert_eq!(refused(5, 4, 5, 1), Err(ParamsError::Honest { m_min: 5, t_c: 4 }));
        assert_eq!(refused(5, 5, 5, 1), Err(ParamsError::Colluders { n: 5, t_c: 5 }));
        assert_eq!(refused(5, u16::MAX, 5, 1), Err(ParamsError::Colluders { n: 5, t_c: u16::MAX }));
        let survivors = |m_min| Err(ParamsError::Survivors { m_min, quorum: 4, n: 5 });
        assert_eq!(refused(5, 1, 3, 1), survivors(3));
        assert_eq!(refused(5, 1, 6, 1), survivors(6));
        assert_eq!(refused(5, 1, 4, 0), Err(ParamsError::Dimension));
    }

    #[test]
    fn chunks_cover_the_vector() {
        for dimension in [1, 7, 65535, 65536, 65537, 200_000] {
            let params = Params::new(3, 1, 3, ring(), dimension).unwrap();
            let chunks = 0..params.chunk_count();
            let elements: usize = chunks.clone().map(|i| params.chunk_elements(i)).sum();
            assert_eq!(elements, dimension as usize);
            let bytes: usize = chunks.map(|i| params.chunk_len(i)).sum();
            assert_eq!(bytes as u64, params.total_len());
            assert_eq!(params.chunk_elements(params.chunk_count()), 0);
            assert_eq!(params.chunk_len(u32::MAX), 0);
        }
        let widest = Params::new(3, 1, 3, RingWidth::new(32).unwrap(), u32::MAX).unwrap();
        assert_eq!(widest.total_len(), u64::from(u32::MAX) * 4);
    }
}
