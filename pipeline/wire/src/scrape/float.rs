//! Numbers of a page: a fast exact path for the common spellings, the standard library for the rest.
//!
//! Every path gives the bits that `str::parse::<f64>` gives. The fast path reads up to 19 digits with an exponent of
//! -27 to 22: by one exact division or multiplication where the digits fit 53 bits (Clinger), else by a 128-bit
//! product with a power of five (Lemire, "Number Parsing at a Gigabyte per Second", 2021).

/// Powers of ten that a double holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Smallest exponent whose power of five has an exactly rounded 128-bit reciprocal.
const EXP_MIN: i32 = -27;
const EXP_MAX: i32 = 22;

/// 5^q for q from [`EXP_MIN`] to [`EXP_MAX`], shifted so that the top bit of 128 is set; reciprocals rounded up.
const FIVES: [u128; 50] = fives();

const fn fives() -> [u128; 50] {
    let mut table = [0_u128; 50];
    let mut q = 1;
    while q <= 27 {
        let power = 5_u128.pow(q);
        let mut bits = 0;
        while (1_u128 << bits) < power {
            bits += 1;
        }
        // floor(2^(bits + 127) / power), one bit at a time: the dividend has more than 128 bits.
        let (mut quotient, mut rest, mut bit) = (0_u128, 1_u128, 0);
        while bit < bits + 127 {
            rest *= 2;
            quotient *= 2;
            if rest >= power {
                rest -= power;
                quotient += 1;
            }
            bit += 1;
        }
        table[(27 - q) as usize] = quotient + 1;
        q += 1;
    }
    let mut q = 0;
    while q <= 22 {
        let power = 5_u128.pow(q);
        table[(27 + q) as usize] = power << power.leading_zeros();
        q += 1;
    }
    table
}

#[inline]
fn digits(bytes: &[u8], mut at: usize, value: &mut u64) -> usize {
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d < 10) {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// The number that `bytes` begin with and how many bytes it takes; `None` when the fast path does not apply: no
/// digits, too many, or an exponent out of its range.
#[inline]
pub(crate) fn prefix(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut mantissa = 0;
    let mut at = digits(bytes, start, &mut mantissa);
    let mut count = at - start;
    let mut exp = 0_i32;
    if bytes.get(at) == Some(&b'.') {
        let end = digits(bytes, at + 1, &mut mantissa);
        let fraction = end - at - 1;
        count += fraction;
        exp = -i32::try_from(fraction).ok()?;
        at = end;
    }
    if count == 0 || count > 19 {
        return None;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let (shift, end) = exponent(bytes, at + 1)?;
        exp += shift;
        at = end;
    }
    let value = if mantissa <= 1 << 53 && (-22..=EXP_MAX).contains(&exp) {
        #[expect(clippy::cast_precision_loss, reason = "at most 53 bits")]
        let exact = mantissa as f64;
        let ten = TENS.get(exp.unsigned_abs() as usize)?;
        if exp < 0 { exact / ten } else { exact * ten }
    } else {
        wide(mantissa, exp)?
    };
    Some((if negative { -value } else { value }, at))
}

fn exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let mut value = 0;
    let end = digits(bytes, at, &mut value);
    if end == at || end > at + 4 {
        return None;
    }
    let value = i32::try_from(value).ok()?;
    Some((if negative { -value } else { value }, end))
}

/// `mantissa` * 10^`exp`, rounded to even; `None` outside the table.
fn wide(mantissa: u64, exp: i32) -> Option<f64> {
    if mantissa == 0 || !(EXP_MIN..=EXP_MAX).contains(&exp) {
        return None;
    }
    let five = *FIVES.get(usize::try_from(exp - EXP_MIN).ok()?)?;
    let zeros = mantissa.leading_zeros();
    let w = mantissa << zeros;
    let first = u128::from(w) * (five >> 64);
    let (mut hi, mut lo) = ((first >> 64) as u64, first as u64);
    // 55 bits are needed; when all lower ones are set, a carry out of the second half may reach them.
    if hi & (u64::MAX >> 55) == u64::MAX >> 55 {
        let second = ((u128::from(w) * u128::from(five as u64)) >> 64) as u64;
        lo = lo.wrapping_add(second);
        hi += u64::from(second > lo);
    }
    let upper = (hi >> 63) as u32;
    let shift = upper + 9;
    let mut bits = hi >> shift;
    // floor(log2(10^exp)) + 63, by a fixed-point log2(10).
    let mut power = ((exp * 217_706) >> 16) + 63 + upper.cast_signed() - zeros.cast_signed() + 1023;
    if lo <= 1 && (-4..=23).contains(&exp) && bits & 3 == 1 && bits << shift == hi {
        bits &= !1;
    }
    bits += bits & 1;
    bits >>= 1;
    if bits >= 2 << 52 {
        bits = 1 << 52;
        power += 1;
    }
    let biased = u64::try_from(power).ok().filter(|power| (1..2047).contains(power))?;
    Some(f64::from_bits(bits & !(1 << 52) | biased << 52))
}

/// A whole token: decimal numbers, `NaN`, `Inf` and `Infinity` in any case. `None` for anything else and, as Go's
/// `ParseFloat` has it, for decimals beyond the range of a double (`1e400`); what is too small becomes zero.
pub(crate) fn token(text: &[u8]) -> Option<f64> {
    if let Some((value, end)) = prefix(text)
        && end == text.len()
    {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value.is_finite() || !text.iter().any(u8::is_ascii_digit)).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(text: &str) {
        let expected: f64 = text.parse().unwrap();
        if let Some((value, end)) = prefix(text.as_bytes()) {
            assert_eq!(end, text.len(), "{text}");
            assert_eq!(value.to_bits(), expected.to_bits(), "{text}");
        }
        if expected.is_finite() {
            assert_eq!(
                token(text.as_bytes()).map(f64::to_bits),
                Some(expected.to_bits()),
                "{text}"
            );
        }
    }

    #[test]
    fn common_spellings_take_the_fast_path() {
        for text in [
            "0",
            "1",
            "12345.0",
            "4.15379456e+08",
            "1.7953193486548054e+09",
            "12.318684866375648",
            "-0.5",
            "9007199254740993",
            "0.5479166666666667",
            "1e22",
            "9007199254740993e-5",
            "18446744073709551e-4",
        ] {
            assert!(prefix(text.as_bytes()).is_some(), "{text}");
            same(text);
        }
    }

    #[test]
    fn tokens_are_go_floats() {
        for (text, value) in
            [("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), ("1e-400", 0.0), ("+5", 5.0)]
        {
            assert_eq!(token(text.as_bytes()), Some(value), "{text}");
        }
        assert!(token(b"NaN").is_some_and(f64::is_nan));
        for text in [
            "", "1e400", "-1e400", "0x10", "0x1p3", "1_000", "1 ", ".", "e5", "1e", "--1", "1\r",
            "١",
        ] {
            assert_eq!(token(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_double_as_printed(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            same(&format!("{value}"));
            same(&format!("{value:e}"));
        }

        #[test]
        fn any_digits(whole in 0_u64.., cut in 0_usize..20, exp in -40_i32..40) {
            let digits = whole.to_string();
            let (a, b) = digits.split_at(cut.min(digits.len()));
            same(&format!("{a}.{b}0e{exp}"));
            same(&format!("{whole}e{exp}"));
            same(&format!("-{whole}"));
        }

        #[test]
        fn halfway_cases(mantissa in 1_u64 << 52..1 << 53, tail in 0_u64..4, exp in -5_i32..24) {
            same(&format!("{}e{exp}", mantissa * 4 + tail));
            same(&format!("{}e{}", mantissa * 2 + 1, -exp));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (prefix(&bytes), token(&bytes));
        }
    }
}
