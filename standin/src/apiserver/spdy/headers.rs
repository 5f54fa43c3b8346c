//! Header blocks: names and values with their lengths, compressed by zlib with a preset dictionary that both sides know.
//!
//! One compressor and one decompressor serve a whole connection; blocks must pass them in the order of the wire.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Broken;

/// The longest block that is read, uncompressed.
const LIMIT_BYTES: usize = 64 * 1024;

/// The dictionary (SPDY/3 draft, section 2.6.10.1) begins with these names, each after its length in four bytes …
const NAMES: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
    accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|\
    content-language|content-length|content-location|content-md5|content-range|content-type|date|etag|\
    expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|\
    last-modified|location|max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|\
    retry-after|server|te|trailer|transfer-encoding|upgrade|user-agent|vary|via|warning|\
    www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin";

/// … and ends with these values, without any lengths.
const VALUES: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
    Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar \
    Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
    GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text\
    /javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// What is sent in a block; `streamtype` and its like.
pub(crate) type Headers = Vec<(String, String)>;

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for name in NAMES.split('|') {
        put_text(&mut dictionary, name.as_bytes());
    }
    dictionary.extend_from_slice(VALUES.as_bytes());
    dictionary
}

pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> Self {
        let mut own = Compress::new(Compression::best(), true);
        own.set_dictionary(&dictionary()).expect("nothing was compressed yet");
        Self(own)
    }

    pub(super) fn compress(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        put_number(&mut plain, headers.len());
        for (name, value) in headers {
            put_text(&mut plain, name.as_bytes());
            put_text(&mut plain, value.as_bytes());
        }
        // Room for the whole result and the flush's empty block: zlib adds but a few bytes to what it cannot shrink.
        let mut block = Vec::with_capacity(plain.len() + 64);
        let done = self.0.compress_vec(&plain, &mut block, FlushCompress::Sync);
        debug_assert!(matches!(done, Ok(Status::Ok)), "{done:?}");
        block
    }
}

pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn decompress(&mut self, block: &[u8]) -> Result<Headers, Broken> {
        let mut plain = Vec::with_capacity(4096);
        let mut rest = block;
        // A full buffer may hide output that is still to come.
        while !rest.is_empty() || plain.len() == plain.capacity() {
            if plain.len() > LIMIT_BYTES {
                return Err(Broken);
            }
            plain.reserve(4096);
            let before = (self.0.total_in(), plain.len());
            let done = self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before.0).map_err(|_| Broken)?;
            rest = rest.get(taken..).ok_or(Broken)?;
            match done {
                Ok(_) if taken > 0 || plain.len() > before.1 => {}
                Ok(_) if rest.is_empty() => break,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| Broken)?;
                }
                Ok(_) | Err(_) => return Err(Broken),
            }
        }
        parse(&plain).ok_or(Broken)
    }
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let count = number(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text(&mut plain)?, text(&mut plain)?));
    }
    Some(headers)
}

fn number(plain: &mut &[u8]) -> Option<usize> {
    let (number, rest) = plain.split_first_chunk()?;
    *plain = rest;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = number(plain)?;
    let (text, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("a header is no longer than four bytes can say");
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_number(bytes, text.len());
    bytes.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_everybody_has() {
        // Proves it by the checksum that a SPDY/3 stream begins with: zlib's header, then the dictionary's id.
        let block = Compressor::new().compress(&[]);
        assert_eq!(block[2..6], 0xe3c6_a7c2_u32.to_be_bytes());
    }

    #[test]
    fn blocks_of_one_connection_build_upon_each_other() {
        // Proves that compressor and decompressor keep their state from block to block.
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let sent = [("streamtype", "data"), ("port", "7"), ("requestid", "0")];
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let block = compressor.compress(&sent);
            sizes.push(block.len());
            let got = decompressor.decompress(&block).expect("the other side's own block");
            let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(got, sent);
        }
        assert!(sizes[2] < sizes[0], "{sizes:?}");
        assert!(decompressor.decompress(b"no such thing").is_err());
    }
}
