//! How a file holds its text: plainly, one record per line, or in columns; compressed or not.
//!
//! Told by name. Standard input has no name and is told by its first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a file holds once it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The file is a document, or several if it is very long.
    Plain,
    /// Every line is a record in JSON.
    JsonLines,
    /// A column is the texts.
    Parquet,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The format of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub layout: Layout,
    pub compression: Compression,
    /// The name without what says how it is compressed.
    pub inner: PathBuf,
}

impl Format {
    /// The format of the file at `path`; None for archives and what else is not read.
    pub fn of_name(path: &Path) -> Option<Self> {
        let (compression, inner) = match extension(path).as_str() {
            "gz" => (Compression::Gzip, path.with_extension("")),
            "zst" => (Compression::Zstd, path.with_extension("")),
            _ => (Compression::None, path.to_owned()),
        };
        let inner_extension = extension(&inner);
        if ARCHIVE_EXTENSIONS.contains(&inner_extension.as_str()) {
            return None;
        }
        let layout = match inner_extension.as_str() {
            "jsonl" | "ndjson" => Layout::JsonLines,
            "parquet" => Layout::Parquet,
            _ => Layout::Plain,
        };
        // Rows are looked up by their place in the file, which a compressed one does not have.
        let is_readable = layout != Layout::Parquet || compression == Compression::None;
        is_readable.then_some(Self { layout, compression, inner })
    }

    /// The format of what was spooled from standard input.
    pub fn of_content(path: &Path) -> io::Result<Self> {
        let mut head = [0; 4];
        let length = read_up_to(&mut File::open(path)?, &mut head)?;
        let head = &head[..length];
        let inner = PathBuf::from("-");
        let compression = match head {
            [0x1F, 0x8B, ..] => Compression::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD] => Compression::Zstd,
            b"PAR1" => {
                return Ok(Self { layout: Layout::Parquet, compression: Compression::None, inner });
            }
            _ => Compression::None,
        };
        let mut reader = BufReader::new(decompressed(path, compression)?);
        let first = reader.fill_buf()?.trim_ascii_start().first().copied();
        let layout = if first == Some(b'{') { Layout::JsonLines } else { Layout::Plain };
        Ok(Self { layout, compression, inner })
    }
}

/// The bytes of the file at `path`, decompressed while they are read.
pub fn decompressed(path: &Path, compression: Compression) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::new(file)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Fills `buffer` as far as there are bytes; says how far.
pub fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A decoder holds a window of up to this many bytes, as a power of two; `zstd --long` makes 27.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

const ARCHIVE_EXTENSIONS: &[&str] =
    &["tgz", "xz", "txz", "bz2", "tbz", "tbz2", "lz4", "lzma", "br", "zip", "7z", "rar", "tar", "gz", "zst"];

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_layout_and_compression() {
        let told = |name: &str| Format::of_name(Path::new(name)).map(|one| (one.layout, one.compression));
        let cases = [
            ("notes.txt", Some((Layout::Plain, Compression::None))),
            ("ls.1.GZ", Some((Layout::Plain, Compression::Gzip))),
            ("a.jsonl.zst", Some((Layout::JsonLines, Compression::Zstd))),
            ("a.parquet", Some((Layout::Parquet, Compression::None))),
            ("a.parquet.gz", None),
            ("a.tar.gz", None),
            ("a.zip", None),
        ];
        for (name, expected) in cases {
            assert_eq!(told(name), expected, "{name}");
        }
        assert_eq!(Format::of_name(Path::new("man/ls.1.gz")).unwrap().inner, Path::new("man/ls.1"));
    }
}
