//! Memory of the machine and of this process, in bytes.

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
