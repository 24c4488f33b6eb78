//! Packed codes in huge pages: a decode step reads all of them, and a processor that finds 4 KiB at a time spends more
//! time on finding them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;
use smelt_backend::memory::system_available_bytes;

use super::map::Shared;

/// What is smaller is mostly not in whole huge pages, and read quickly anyway.
const LEAST_BYTES: usize = 16 << 20;

/// Memory in huge pages that is filled from its beginning.
pub(super) struct HugePages {
    memory: MmapMut,
    used: usize,
}

impl HugePages {
    /// Room for `bytes`; none where it would not be worth while, where the system gives out no huge pages, and where less
    /// than as much memory again would be left.
    pub(super) fn for_codes(bytes: usize) -> Option<Self> {
        if bytes < LEAST_BYTES || !are_given_out() || system_available_bytes() / 2 < bytes as u64 {
            return None;
        }
        Self::map(bytes).ok()
    }

    /// Room for `bytes`, at least one, in whatever pages the system gives.
    pub(super) fn map(bytes: usize) -> io::Result<Self> {
        let memory = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "packed codes are in small pages");
        }
        Ok(Self { memory, used: 0 })
    }

    /// Copies `bytes` behind what was copied before.
    ///
    /// # Panics
    /// Without room for them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.memory[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// All that was copied, for whoever outlives this: it is never written again.
    pub(super) fn into_bytes(self) -> io::Result<Bytes> {
        Ok(Bytes::from_owner(Shared(Arc::new(self.memory.make_read_only()?))).slice(..self.used))
    }
}

/// The system has huge pages for those who ask.
fn are_given_out() -> bool {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    cfg!(target_os = "linux") && enabled.is_ok_and(|enabled| !enabled.contains("[never]"))
}
