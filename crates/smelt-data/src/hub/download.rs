//! One file from a hub: what is there of it is kept, what is missing is fetched, the whole is checked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::thread::sleep;

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::HubError;
use super::cache::{Hash, RepoCache};
use super::client::{Client, FileFacts, start_of_range};

/// Attempts in a row that may bring nothing.
const MAX_ATTEMPTS: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;

/// A file to download.
pub struct Download<'d> {
    pub client: &'d Client,
    pub cache: &'d RepoCache,
    pub url: &'d str,
    /// Its name, for messages.
    pub file: &'d str,
    pub facts: &'d FileFacts,
}

/// Hears how much of a file is there, and may break to stop.
type OnBytes<'b> = &'b mut dyn FnMut(u64) -> ControlFlow<()>;

/// Why an attempt ended.
enum Ended {
    /// The content ended.
    Whole,
    /// It broke off, or the hub is busy; another attempt may bring the rest.
    Cut(io::Error),
}

impl Download<'_> {
    /// Brings the file into the blobs of the cache; gives how many bytes came over the network.
    pub fn run(&self, on_bytes: OnBytes<'_>) -> Result<u64, HubError> {
        let blob = self.cache.blob(&self.facts.etag);
        if blob.is_file() {
            return Ok(0);
        }
        let folder = blob.parent().expect("a blob lies in a folder");
        fs::create_dir_all(folder).map_err(HubError::io("create", folder))?;
        let _lock = self.cache.lock(&self.facts.etag, self.file)?;
        // The name under which Python's tools continue too.
        let partial = folder.join(format!("{}.incomplete", self.facts.etag));
        let fetched = self.fetch(&partial, on_bytes)?;
        self.check(&partial)?;
        fs::rename(&partial, &blob).map_err(HubError::io("write", &blob))?;
        Ok(fetched)
    }

    fn fetch(&self, partial: &Path, on_bytes: OnBytes<'_>) -> Result<u64, HubError> {
        let size = self.facts.size_bytes;
        let (mut fetched, mut failures) = (0, 0);
        let mut most = length(partial)?;
        loop {
            let there = match length(partial)? {
                there if size.is_some_and(|size| there > size) => {
                    empty(partial)?;
                    0
                }
                there => there,
            };
            if there > 0 && size == Some(there) {
                return Ok(fetched);
            }
            let ended = self.attempt(partial, there, &mut fetched, on_bytes)?;
            let now = length(partial)?;
            let error = match ended {
                Ended::Whole if size.is_none_or(|size| now >= size) => return Ok(fetched),
                Ended::Whole => io::ErrorKind::UnexpectedEof.into(),
                Ended::Cut(error) => error,
            };
            failures = if now > most { 0 } else { failures + 1 };
            most = most.max(now);
            if failures == MAX_ATTEMPTS {
                let file = self.file.to_owned();
                return Err(HubError::Cut { file, at_bytes: now, attempts: failures, source: error });
            }
            sleep(self.client.settings().retry_delay * 2_u32.pow(failures));
        }
    }

    /// Appends to what is there what one connection brings.
    fn attempt(
        &self,
        partial: &Path,
        there: u64,
        fetched: &mut u64,
        on_bytes: OnBytes<'_>,
    ) -> Result<Ended, HubError> {
        let mut answer = match self.client.open(self.url, there, self.file) {
            Ok(answer) => answer,
            Err(HubError::Connection { source, .. }) => return Ok(Ended::Cut(source.into_io())),
            Err(error) => return Err(error),
        };
        let from = match self.first_byte(&answer, there)? {
            Some(from) => from,
            None if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                let status = answer.status().as_u16();
                return Ok(Ended::Cut(io::Error::other(format!("the hub answered {status}"))));
            }
            None => {
                empty(partial)?;
                return Ok(Ended::Cut(io::Error::other("the hub sent another part of the file")));
            }
        };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(partial);
        let mut file = file.map_err(HubError::io("write", partial))?;
        // What is behind `from` was fetched in vain.
        file.set_len(from)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(HubError::io("write", partial))?;
        let ended = self.copy(&mut answer.body_mut().as_reader(), &mut file, from, |read, done| {
            *fetched += read;
            on_bytes(done)
        })?;
        file.sync_all().map_err(HubError::io("write", partial))?;
        Ok(ended)
    }

    /// Where in the file the content of an answer begins; none if another attempt is to be made.
    fn first_byte(&self, answer: &Response<Body>, there: u64) -> Result<Option<u64>, HubError> {
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                Ok(Some(there).filter(|_| start_of_range(answer.headers()) == Some(there)))
            }
            // A server that knows no ranges begins anew.
            StatusCode::OK => Ok(Some(0)),
            StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => Ok(None),
            StatusCode::TOO_MANY_REQUESTS => Ok(None),
            status if status.is_server_error() => Ok(None),
            status => {
                let what = format!("`{}`", self.file);
                self.client.expect_success(answer, &what)?;
                Err(HubError::Status { what, status: status.as_u16() })
            }
        }
    }

    fn copy(
        &self,
        content: &mut impl Read,
        file: &mut File,
        from: u64,
        mut on_read: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Ended, HubError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut done = from;
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => return Ok(Ended::Whole),
                Ok(read) => read,
                Err(error) => return Ok(Ended::Cut(error)),
            };
            done += read as u64;
            if let Some(size) = self.facts.size_bytes.filter(|size| done > *size) {
                let reason = format!("expected {size} bytes, found more");
                return Err(HubError::BadAnswer { what: format!("`{}`", self.file), reason });
            }
            file.write_all(&buffer[..read]).map_err(HubError::io("write", Path::new(self.file)))?;
            if on_read(read as u64, done).is_break() {
                return Err(HubError::Stopped);
            }
        }
    }

    /// Compares what arrived with what was announced; deletes it if it differs.
    fn check(&self, partial: &Path) -> Result<(), HubError> {
        let expected = &self.facts.etag;
        let hash = Hash::of(expected);
        let found = hash.compute(partial).map_err(HubError::io("read", partial))?;
        match found.filter(|found| !found.eq_ignore_ascii_case(expected)) {
            None => Ok(()),
            Some(found) => {
                fs::remove_file(partial).map_err(HubError::io("delete", partial))?;
                let (file, expected) = (self.file.to_owned(), expected.clone());
                Err(HubError::Checksum { file, algorithm: hash.name(), expected, found })
            }
        }
    }
}

fn length(path: &Path) -> Result<u64, HubError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(HubError::io("read", path)(error)),
    }
}

fn empty(partial: &Path) -> Result<(), HubError> {
    File::create(partial).map(drop).map_err(HubError::io("replace", partial))
}
