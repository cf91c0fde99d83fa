//! The CRC-32 of an index record: 60 bytes, which general code takes longest for, since it falls between
//! the lengths that processors' instructions are used for and those where a table is quick. A first look at
//! a mailbox verifies every record, so that is most of what it costs.
//!
//! Where the processor multiplies without carries (PCLMULQDQ), the four 16-byte lanes of a record are
//! brought to the place of the last one by a multiplication each, and what is left is reduced after Barrett:
//! V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel
//! 2009, for reflected polynomials. Elsewhere crc32fast computes it.
//!
//! Invariant: both ways give the same number for all words; a test compares them.

use super::crc;
use super::index::{Words, words_to_bytes};

/// Bytes of a record in front of its CRC.
const BYTES: usize = 60;

/// The CRC of a record, which is in the upper half of its last word.
#[inline]
pub(super) fn of(words: &Words) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if clmul::is_there() {
        // Four zero bytes in front leave a state of zero as it is.
        let behind = |at: usize| words[at] << 32 | at.checked_sub(1).map_or(0, |b| words[b] >> 32);
        let mut moved: Words = [0, 1, 2, 3, 4, 5, 6, 7].map(behind);
        moved[0] ^= u64::from(u32::MAX) << 32;
        // SAFETY: `is_there` found the instructions that it needs.
        return !unsafe { clmul::state(&moved) };
    }
    crc(0, &words_to_bytes(words)[..BYTES])
}

/// Whether a record's CRC is that of the rest.
#[inline]
pub(super) fn is_right(words: &Words) -> bool {
    #[cfg(target_arch = "x86_64")]
    if clmul::is_there() {
        /// What a CRC-32 comes to behind itself.
        const RESIDUE: u32 = 0xdebb_20e3;
        let mut whole = *words;
        whole[0] ^= u64::from(u32::MAX);
        // SAFETY: `is_there` found the instructions that it needs.
        return unsafe { clmul::state(&whole) } == RESIDUE;
    }
    of(words) == (words[7] >> 32) as u32
}

#[cfg(target_arch = "x86_64")]
mod clmul {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_clmulepi64_si128, _mm_extract_epi32, _mm_set_epi32,
        _mm_set_epi64x, _mm_srli_si128, _mm_xor_si128,
    };

    use super::Words;

    /// The polynomial with its lowest power in the highest bit, without its highest.
    const POLYNOMIAL: u32 = 0xedb8_8320;

    /// x to the power of `n` modulo the polynomial, as a factor: one place higher, since the product of
    /// two reflected numbers is one place too low.
    const fn power(n: u32) -> i64 {
        let (mut power, mut done) = (1_u32 << 31, 0);
        while done < n {
            power = power >> 1 ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            done += 1;
        }
        (power as i64) << 1
    }

    /// The quotient of x to the power of 64 by the polynomial, reflected.
    const fn quotient() -> i64 {
        let polynomial = (POLYNOMIAL.reverse_bits() as u128) | 1 << 32;
        let (mut rest, mut quotient, mut at) = (1_u128 << 64, 0_u64, 33);
        while at > 0 {
            at -= 1;
            if rest >> (at + 32) & 1 == 1 {
                rest ^= polynomial << at;
                quotient |= 1 << at;
            }
        }
        (quotient.reverse_bits() >> 31) as i64
    }

    /// Factors that bring the halves of a lane so many bits further.
    const fn factors(bits: u32) -> (i64, i64) {
        (power(bits + 32), power(bits - 32))
    }

    const BY_THREE: (i64, i64) = factors(3 * 128);
    const BY_TWO: (i64, i64) = factors(2 * 128);
    const BY_ONE: (i64, i64) = factors(128);
    const BY_HALF: i64 = power(64);
    const QUOTIENT: i64 = quotient();
    const WHOLE: i64 = (POLYNOMIAL as i64) << 1 | 1;

    #[inline]
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("sse4.1")
    }

    #[inline]
    #[target_feature(enable = "pclmulqdq,sse4.1")]
    fn brought(lane: __m128i, (low, high): (i64, i64)) -> __m128i {
        let factors = _mm_set_epi64x(high, low);
        _mm_xor_si128(
            _mm_clmulepi64_si128::<0x00>(lane, factors),
            _mm_clmulepi64_si128::<0x11>(lane, factors),
        )
    }

    /// The CRC's state behind 64 bytes, from a state of zero.
    #[target_feature(enable = "pclmulqdq,sse4.1")]
    pub(super) fn state(words: &Words) -> u32 {
        let lane = |at: usize| _mm_set_epi64x(words[at + 1] as i64, words[at] as i64);
        let lanes = _mm_xor_si128(
            _mm_xor_si128(brought(lane(0), BY_THREE), brought(lane(2), BY_TWO)),
            _mm_xor_si128(brought(lane(4), BY_ONE), lane(6)),
        );
        // To 96 bits and to 64, each with the 32 bits of zeros behind that a CRC has.
        let low_word = _mm_set_epi32(0, 0, 0, !0);
        let high = _mm_set_epi64x(0, BY_ONE.1);
        let rest =
            _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(lanes, high), _mm_srli_si128::<8>(lanes));
        let half = _mm_set_epi64x(0, BY_HALF);
        let rest = _mm_xor_si128(
            _mm_clmulepi64_si128::<0x00>(_mm_and_si128(rest, low_word), half),
            _mm_srli_si128::<4>(rest),
        );
        let barrett = _mm_set_epi64x(QUOTIENT, WHOLE);
        let times = _mm_clmulepi64_si128::<0x10>(_mm_and_si128(rest, low_word), barrett);
        let whole = _mm_clmulepi64_si128::<0x00>(_mm_and_si128(times, low_word), barrett);
        _mm_extract_epi32::<1>(_mm_xor_si128(rest, whole)) as u32
    }

    #[cfg(test)]
    #[test]
    fn the_factors_are_those_of_the_paper() {
        assert_eq!(BY_ONE, (0x1_7519_97d0, 0xccaa_009e));
        assert_eq!((BY_HALF, QUOTIENT, WHOLE), (0x1_63cd_6124, 0x1_f701_1641, 0x1_db71_0641));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_crc_of_the_bytes(words in any::<Words>(), bit in 0..512_usize) {
            let right = crc(0, &words_to_bytes(&words)[..BYTES]);
            prop_assert_eq!(of(&words), right);
            let mut whole = words;
            whole[7] = words[7] & u64::from(u32::MAX) | u64::from(right) << 32;
            prop_assert!(is_right(&whole));
            whole[bit / 64] ^= 1 << (bit % 64);
            prop_assert!(!is_right(&whole));
        }
    }
}
