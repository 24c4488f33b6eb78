//! Documents out of files: what to read, in which order, and what could not be.

mod encoding;
mod files;
mod format;
mod input;
mod jsonl;
mod kind;
mod lines;
mod parquet;
mod read;
mod removed;
mod walk;

pub(crate) use encoding::{Decoded, decode, normalized};
pub(crate) use files::{Catalogue, Files};
pub(crate) use jsonl::record_text;
pub(crate) use read::{Content, Form, Item, Position, RawDocument, Reader};

pub use encoding::OnInvalidUtf8;
pub use input::Input;
pub use kind::FileKind;
pub(crate) use kind::is_for_bash;
pub use read::{OnBadLine, ReadOptions};
pub use removed::{Reason, Removal, Removed, Step};
