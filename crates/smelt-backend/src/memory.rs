//! Memory of the machine and of this process, in bytes, and what happens where it ends.

use std::any::Any;
#[cfg(all(feature = "cpu", target_os = "linux"))]
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// Physical memory of the machine.
pub fn system_total_bytes() -> u64 {
    system().total_memory()
}

/// Memory that can be had without swapping.
pub fn system_available_bytes() -> u64 {
    system().available_memory()
}

fn system() -> System {
    System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()))
}

/// Hands memory that was freed back to the system, so that what runs next does not come on top of it.
///
/// The allocator of glibc keeps what it may need again; elsewhere nothing is done.
pub fn release_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes no pointers and may be called at any time from any thread.
        #[allow(unsafe_code, reason = "an extension of glibc")]
        unsafe {
            nix::libc::malloc_trim(0);
        }
    }
}

/// Has memory that was freed stay with this process, for work that soon allocates as much again: the system fills pages
/// with zeros when they are first touched, which takes about as long as it takes to write them.
///
/// Tells the allocator of glibc; elsewhere nothing is done. [`release_freed`] still hands it back.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, mallopt};
        /// The largest that glibc takes: what is larger is mapped anew each time.
        const LARGEST_KEPT: c_int = 32 << 20;
        const NEVER: c_int = -1;
        // SAFETY: `mallopt` takes no pointers and may be called at any time from any thread.
        #[allow(unsafe_code, reason = "an extension of glibc")]
        unsafe {
            mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT);
            mallopt(M_TRIM_THRESHOLD, NEVER);
        }
    }
}

/// Says that `numbers`, which lie in a file, will hardly be read again: the system takes their memory back, and reads the
/// file again if they are. Elsewhere than on Linux nothing is done.
#[cfg(feature = "cpu")]
pub(crate) fn set_aside<T>(numbers: &[T]) {
    #[cfg(target_os = "linux")]
    {
        use nix::libc::{_SC_PAGESIZE, MADV_PAGEOUT, madvise, sysconf};
        let Range { start, end } = numbers.as_ptr_range();
        // SAFETY: `sysconf` takes no pointers. Advice of this kind changes no memory: what is needed again is read again.
        #[allow(unsafe_code, reason = "calls of the system, one of them on memory given by a pointer")]
        unsafe {
            let Ok(page) = usize::try_from(sysconf(_SC_PAGESIZE)) else { return };
            // Whole pages: what lies around belongs to others.
            let (first, last) = (start.addr().next_multiple_of(page), end.addr() / page * page);
            if first < last {
                madvise(start.with_addr(first).cast_mut().cast(), last - first, MADV_PAGEOUT);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = numbers;
}

/// What backends say when an allocation on their device fails: they panic.
const OUT_OF_MEMORY: [&str; 7] = [
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "not enough memory",
    "failed to allocate",
    "can't allocate",
    "buffertoobig",
];

/// Runs `work`; a panic of a backend whose device is out of memory becomes its message, and is not printed.
///
/// Other panics go on. In system memory nothing can be caught: Rust ends the process when an allocation fails,
/// and Linux promises memory that it does not have.
///
/// # Errors
/// The backend's words, shortened to a line.
pub fn catch_out_of_memory<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::sync::Arc::new(panic::take_hook());
    let quiet = std::sync::Arc::clone(&hook);
    panic::set_hook(Box::new(move |info| {
        if out_of_memory(info.payload()).is_none() {
            quiet(info);
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    if let Ok(hook) = std::sync::Arc::try_unwrap(hook) {
        panic::set_hook(hook);
    }
    result.or_else(|payload| match out_of_memory(payload.as_ref()) {
        Some(message) => Err(message),
        None => panic::resume_unwind(payload),
    })
}

/// The first line of a panic's message, if it is about memory.
fn out_of_memory(payload: &(dyn Any + Send)) -> Option<String> {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied())?;
    let lower = message.to_lowercase();
    let found = OUT_OF_MEMORY.iter().any(|words| lower.contains(words));
    found.then(|| message.lines().next().unwrap_or_default().to_owned())
}

/// Resident memory of this process now.
pub fn process_current_bytes() -> Option<u64> {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
    system.process(pid).map(|process| process.memory())
}

/// Largest resident memory of this process so far.
#[cfg(unix)]
pub fn process_peak_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss();
    // Linux and the BSDs count in KiB, Darwin in bytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    u64::try_from(peak).ok().map(|peak| peak * unit)
}

/// Largest resident memory of this process so far, where the system tells.
#[cfg(not(unix))]
pub fn process_peak_bytes() -> Option<u64> {
    process_current_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_out_of_memory_is_told_apart_from_other_panics() {
        assert_eq!(catch_out_of_memory(|| 3), Ok(3));
        let full = catch_out_of_memory(|| panic!("Device error: CUDA_ERROR_OUT_OF_MEMORY\nat line 3"));
        assert_eq!(full, Err::<(), _>("Device error: CUDA_ERROR_OUT_OF_MEMORY".to_owned()));
        let other = panic::catch_unwind(|| catch_out_of_memory(|| panic!("index 7 of 3")));
        assert_eq!(*other.unwrap_err().downcast::<&str>().unwrap(), "index 7 of 3");
    }
}
