//! gzip and zstd for HTTP bodies: encoders that are reused, and decoding with a cap on what comes out.
//!
//! Sans-IO: a whole body in, a whole body out. The gzip frame (RFC 1952) is written and read here, around raw deflate,
//! because only raw deflate state can be used again without allocating.

use std::cell::RefCell;
use std::io;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::bulk::Compressor;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe;

/// 8 MiB: the largest window a decoder of the `zstd` content coding has to accept (RFC 9659). Without this limit a frame
/// of a few bytes can ask for 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How much the output of a decoder grows by, at least.
const GROW_BYTES_MIN: usize = 16 << 10;

/// A content coding, as in `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// The bytes as they are.
    Identity,
    /// gzip, RFC 1952.
    Gzip,
    /// zstd, RFC 8878.
    Zstd,
}

impl Coding {
    /// The word in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Reads the value of `Content-Encoding`; nothing and the empty value are identity. `None`: a coding, or a list of
    /// them, that is not supported.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if value.is_empty() || is("identity") {
            Some(Self::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why a compressed body cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// More comes out than allowed.
    #[error("expected at most {limit} bytes after decompression")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes are not of that coding, or are damaged.
    #[error("expected {coding} data, found {found}")]
    Malformed {
        /// The coding that was announced.
        coding: &'static str,
        /// What is wrong.
        found: &'static str,
    },
    /// The coding's library refuses the bytes.
    #[error("expected {coding} data, found something damaged")]
    Damaged {
        /// The coding that was announced.
        coding: &'static str,
        /// What the library says.
        source: io::Error,
    },
}

/// Compresses bodies, again and again with the same state.
pub struct Encoder {
    gzip_level: u32,
    zstd_level: i32,
    deflate: Option<Compress>,
    zstd: Option<Compressor<'static>>,
}

impl Default for Encoder {
    /// gzip 6 and zstd 3: what both libraries take for a good compromise.
    fn default() -> Self {
        Self::new(6, 3)
    }
}

impl Encoder {
    /// Makes an encoder; state is allocated on first use. `gzip_level` goes from 0 to 9, `zstd_level` to 22; what lies
    /// outside is taken as the nearest.
    #[must_use]
    pub fn new(gzip_level: u32, zstd_level: i32) -> Self {
        Self {
            gzip_level: gzip_level.min(9),
            zstd_level: zstd_level.min(22),
            deflate: None,
            zstd: None,
        }
    }

    /// Compresses `input` into `out`, which is emptied first.
    ///
    /// # Errors
    /// Only when the coding's library fails (out of memory).
    pub fn encode(&mut self, coding: Coding, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match coding {
            Coding::Identity => out.extend_from_slice(input),
            Coding::Gzip => self.gzip(input, out)?,
            Coding::Zstd => {
                let level = self.zstd_level;
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    empty => empty.insert(Compressor::new(level)?),
                };
                out.reserve(zstd_safe::compress_bound(input.len()));
                zstd.compress_to_buffer(input, out)?;
            }
        }
        Ok(())
    }

    fn gzip(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let level = Compression::new(self.gzip_level);
        let deflate = self.deflate.get_or_insert_with(|| Compress::new(level, false));
        deflate.reset();
        // No name, no time, unknown system.
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut rest = input;
        loop {
            if out.len() == out.capacity() {
                out.reserve((rest.len() / 4).max(GROW_BYTES_MIN));
            }
            let before = deflate.total_in();
            let status =
                deflate.compress_vec(rest, out, FlushCompress::Finish).map_err(io::Error::other)?;
            rest = after(rest, deflate.total_in() - before);
            if status == Status::StreamEnd {
                break;
            }
        }
        let mut crc = Crc::new();
        crc.update(input);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(())
    }
}

/// Decodes bodies, again and again with the same state. [`decode`] has one per thread.
#[derive(Default)]
pub struct Decoder {
    inflate: Option<Decompress>,
    zstd: Option<ZstdDecoder<'static>>,
}

impl Decoder {
    /// Decodes `input` into `out`, which is emptied first and never holds more than about `max` bytes.
    ///
    /// # Errors
    /// More than `max` bytes come out, or the bytes are not of that coding or cut short.
    pub fn decode(
        &mut self,
        coding: Coding,
        input: &[u8],
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), DecodeError> {
        out.clear();
        match coding {
            Coding::Identity if input.len() > max => Err(DecodeError::TooLarge { limit: max }),
            Coding::Identity => {
                out.extend_from_slice(input);
                Ok(())
            }
            Coding::Gzip => self.gunzip(input, out, max),
            Coding::Zstd => self.unzstd(input, out, max),
        }
    }

    fn gunzip(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), DecodeError> {
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        loop {
            inflate.reset(false);
            input = gzip_header(input).ok_or(malformed_gzip("no gzip header"))?;
            let start = out.len();
            input = inflate_member(inflate, input, out, max)?;
            let mut crc = Crc::new();
            crc.update(out.get(start..).unwrap_or_default());
            let Some((trailer, rest)) = input.split_first_chunk::<8>() else {
                return Err(malformed_gzip("a body cut short"));
            };
            let found = u64::from_le_bytes(*trailer);
            if found != u64::from(crc.sum()) | u64::from(crc.amount()) << 32 {
                return Err(malformed_gzip("a wrong checksum"));
            }
            // Members may follow one another; some writers pad with zeros.
            if rest.iter().all(|&byte| byte == 0) {
                return Ok(());
            }
            input = rest;
        }
    }

    fn unzstd(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecodeError> {
        let damaged = |source| DecodeError::Damaged { coding: "zstd", source };
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => {
                let mut made = ZstdDecoder::new().map_err(damaged)?;
                made.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(damaged)?;
                empty.insert(made)
            }
        };
        zstd.reinit().map_err(damaged)?;
        let mut input = InBuffer::around(input);
        loop {
            grow(out, max);
            let (filled, used) = (out.len(), input.pos());
            let hint =
                zstd.run(&mut input, &mut OutBuffer::around_pos(out, filled)).map_err(damaged)?;
            if out.len() > max {
                return Err(DecodeError::TooLarge { limit: max });
            }
            let finished = input.pos() == input.src.len();
            if finished && hint == 0 {
                return Ok(());
            }
            if finished && out.len() < out.capacity() || (out.len(), input.pos()) == (filled, used)
            {
                return Err(DecodeError::Malformed { coding: "zstd", found: "a body cut short" });
            }
        }
    }
}

/// Decodes `input` into `out` with the decoder of this thread; see [`Decoder::decode`].
///
/// # Errors
/// As [`Decoder::decode`].
pub fn decode(
    coding: Coding,
    input: &[u8],
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), DecodeError> {
    thread_local! {
        static DECODER: RefCell<Decoder> = RefCell::default();
    }
    DECODER.with_borrow_mut(|decoder| decoder.decode(coding, input, out, max))
}

/// Inflates up to the end of the deflate stream; gives what follows it.
fn inflate_member<'a>(
    inflate: &mut Decompress,
    mut input: &'a [u8],
    out: &mut Vec<u8>,
    max: usize,
) -> Result<&'a [u8], DecodeError> {
    loop {
        grow(out, max);
        let (filled, used) = (out.len(), inflate.total_in());
        let status = inflate
            .decompress_vec(input, out, FlushDecompress::None)
            .map_err(|source| DecodeError::Damaged { coding: "gzip", source: source.into() })?;
        let used = inflate.total_in() - used;
        input = after(input, used);
        if out.len() > max {
            return Err(DecodeError::TooLarge { limit: max });
        }
        if status == Status::StreamEnd {
            return Ok(input);
        }
        if used == 0 && out.len() == filled {
            return Err(malformed_gzip("a body cut short"));
        }
    }
}

/// Skips the header of a gzip member, RFC 1952 section 2.3. `None`: this is not one.
fn gzip_header(input: &[u8]) -> Option<&[u8]> {
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = input.split_first_chunk::<10>()? else {
        return None;
    };
    let past_nul = |text: &'_ [u8]| text.iter().position(|&byte| byte == 0).map(|at| at + 1);
    if flags & 0b1110_0000 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        let (length, extra) = rest.split_first_chunk::<2>()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    if flags & 8 != 0 {
        rest = rest.get(past_nul(rest)?..)?;
    }
    if flags & 16 != 0 {
        rest = rest.get(past_nul(rest)?..)?;
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// Makes room for more output, up to one byte above the cap: that byte shows that there is too much.
fn grow(out: &mut Vec<u8>, max: usize) {
    if out.len() == out.capacity() {
        let room = max.saturating_sub(out.len()).saturating_add(1);
        out.reserve_exact(room.min(out.len().max(GROW_BYTES_MIN)));
    }
}

fn after(input: &[u8], used: u64) -> &[u8] {
    usize::try_from(used).ok().and_then(|used| input.get(used..)).unwrap_or_default()
}

fn malformed_gzip(found: &'static str) -> DecodeError {
    DecodeError::Malformed { coding: "gzip", found }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|n| {
                format!("vllm:requests_total{{pod=\"p-{n}\"}} {}\n", n * 7919).into_bytes()
            })
            .collect()
    }

    #[test]
    fn both_codings_round_trip_with_reused_state() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        for lines in [0, 1, 5000, 3, 20_000] {
            for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
                let input = text(lines);
                encoder.encode(coding, &input, &mut packed).unwrap();
                decoder.decode(coding, &packed, &mut out, input.len()).unwrap();
                assert!(out == input, "{coding:?}, {lines} lines");
            }
        }
    }

    #[test]
    fn gzip_is_what_others_write_and_read() {
        let input = text(1000);
        let mut theirs = flate2::GzBuilder::new()
            .filename("m.txt")
            .comment("c")
            .extra("xyz")
            .write(vec![], Compression::best());
        theirs.write_all(&input).unwrap();
        let mut members = theirs.finish().unwrap();
        let mut ours = Vec::new();
        Encoder::default().encode(Coding::Gzip, &input, &mut ours).unwrap();
        let mut read = Vec::new();
        io::copy(&mut flate2::read::GzDecoder::new(&ours[..]), &mut read).unwrap();
        assert!(read == input);

        members.extend_from_slice(&ours);
        members.extend_from_slice(&[0; 12]);
        let mut out = Vec::new();
        decode(Coding::Gzip, &members, &mut out, 1 << 20).unwrap();
        assert!(out == [input.clone(), input].concat());
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut bomb = Vec::new();
            Encoder::new(1, 1).encode(coding, &vec![0; 8 << 20], &mut bomb).unwrap();
            let mut out = Vec::new();
            let error = decode(coding, &bomb, &mut out, 1 << 20).unwrap_err();
            assert!(
                matches!(error, DecodeError::TooLarge { limit } if limit == 1 << 20),
                "{error}"
            );
            assert!(out.capacity() <= 4 << 20, "{} bytes held", out.capacity());
            assert!(decode(coding, &bomb, &mut out, 8 << 20).is_ok(), "the cap itself is allowed");
        }
    }

    #[test]
    fn cut_and_damaged_bodies_are_errors_and_leave_the_decoder_usable() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let (mut good, mut out) = (Vec::new(), Vec::new());
        for coding in [Coding::Gzip, Coding::Zstd] {
            encoder.encode(coding, &text(200), &mut good).unwrap();
            for cut in 1..good.len() {
                assert!(
                    decoder.decode(coding, &good[..cut], &mut out, 1 << 20).is_err(),
                    "{coding:?} cut at {cut}"
                );
            }
            assert!(decoder.decode(coding, b"not compressed", &mut out, 1 << 20).is_err());
            decoder.decode(coding, &good, &mut out, 1 << 20).unwrap();
            assert!(out == text(200));
        }
        encoder.encode(Coding::Gzip, &text(200), &mut good).unwrap();
        let end = good.len() - 1;
        good[end] ^= 1;
        let error = decoder.decode(Coding::Gzip, &good, &mut out, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "expected gzip data, found a wrong checksum");
    }

    #[test]
    fn an_empty_body_is_not_gzip_and_a_huge_window_is_refused() {
        let mut out = Vec::new();
        assert!(decode(Coding::Gzip, b"", &mut out, 10).is_err());
        // Magic, descriptor without single segment, window descriptor of 2^27 bytes, one empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3, 0x01, 0x00, 0x00];
        assert!(matches!(
            decode(Coding::Zstd, &frame, &mut out, 10),
            Err(DecodeError::Damaged { .. })
        ));
    }

    #[test]
    fn content_encoding_words() {
        assert_eq!(Coding::parse(" GZIP "), Some(Coding::Gzip));
        assert_eq!(Coding::parse("x-gzip"), Some(Coding::Gzip));
        assert_eq!(Coding::parse(""), Some(Coding::Identity));
        assert_eq!(Coding::parse("gzip, gzip"), None);
        assert_eq!(Coding::parse("br"), None);
    }
}
