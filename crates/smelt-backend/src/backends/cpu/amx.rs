//! AMX, Intel's matrix unit: eight registers ("tiles") of 16 lines of 64 bytes, and products of them.
//!
//! Rust has no stable intrinsics for it. Instructions are written out, and each block of them sets the tiles up and
//! releases them, because the system saves their 8 KiB for as long as they are in use.

#![allow(unsafe_code, reason = "instructions without intrinsics, and a system call without a wrapper")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

use nix::libc;

/// The processor has AMX with bf16 and bytes, the system keeps its state, and has allowed this process to use it.
pub(super) fn is_granted() -> bool {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const BYTES: u32 = 1 << 25;
    /// Bits of the state that the system keeps: the setting of the tiles, and what they hold.
    const STATE: u64 = 0b11 << 17;
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("xsave")
        && __cpuid_count(7, 0).edx & (BF16 | TILES | BYTES) == BF16 | TILES | BYTES
        // SAFETY: the processor has XSAVE, and the system uses it, or else AVX-512 would not have been detected.
        && unsafe { kept_state() } & STATE == STATE
        && request()
}

#[target_feature(enable = "xsave")]
unsafe fn kept_state() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

/// Asks the system for the permission to use tiles, for all threads.
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers, and changes nothing but that permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// Lines of a tile.
const LINES: usize = 16;
/// Bytes of a line of a tile.
const LINE: usize = 64;

/// All tiles with [`LINES`] of [`LINE`] bytes.
#[repr(C, align(64))]
struct Setting([u8; 64]);

static SETTING: Setting = {
    let mut setting = [0; 64];
    setting[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        setting[16 + 2 * tile] = LINE as u8;
        setting[48 + tile] = LINES as u8;
        tile += 1;
    }
    Setting(setting)
};

/// Sets the tiles up for this thread.
///
/// # Safety
/// [`is_granted`] said so. [`release`] must follow.
pub(super) unsafe fn set_up() {
    // SAFETY: the caller's promise; the setting is valid.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SETTING, options(nostack, readonly)) }
}

/// Ends what [`set_up`] began.
///
/// # Safety
/// As there.
pub(super) unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// `to = from + a b` for 32 x 32 numbers in f32, whose lines are a stride apart.
///
/// `a` holds, for each of `steps` steps, two tiles of 16 lines of 32 numbers in bf16; `b` two of 16 columns, pair by pair.
///
/// # Safety
/// Between [`set_up`] and [`release`]; `from` and `to` hold 32 lines, and `a` and `b` two tiles for each step.
pub(super) unsafe fn multiply(
    steps: usize,
    a: *const u8,
    b: *const u8,
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
) {
    debug_assert!(steps > 0, "a product of nothing");
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{from} + {from_line}]",
            "tileloadd tmm1, [{from} + {from_line} + {line}]",
            "tileloadd tmm2, [{lower_from} + {from_line}]",
            "tileloadd tmm3, [{lower_from} + {from_line} + {line}]",
            "2:",
            "tileloadd tmm4, [{a} + {packed}]",
            "tileloadd tmm6, [{b} + {packed}]",
            "tileloadd tmm5, [{a} + {packed} + {square}]",
            "tileloadd tmm7, [{b} + {packed} + {square}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2 * {square}",
            "add {b}, 2 * {square}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{to} + {to_line}], tmm0",
            "tilestored [{to} + {to_line} + {line}], tmm1",
            "tilestored [{lower_to} + {to_line}], tmm2",
            "tilestored [{lower_to} + {to_line} + {line}], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            from = in(reg) from,
            lower_from = in(reg) from.wrapping_add(LINES * from_stride),
            from_line = in(reg) from_stride * size_of::<f32>(),
            to = in(reg) to,
            lower_to = in(reg) to.wrapping_add(LINES * to_stride),
            to_line = in(reg) to_stride * size_of::<f32>(),
            packed = in(reg) LINE,
            line = const LINE,
            square = const LINES * LINE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

// What follows is one instruction each, so that others may stand between them: no compiler touches a tile.

/// Fills tile `TO` with zeros.
///
/// # Safety
/// Between [`set_up`] and [`release`].
#[inline(always)]
pub(super) unsafe fn zero<const TO: usize>() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilezero tmm{to}", to = const TO, options(nostack, nomem)) }
}

/// Reads tile `TO`, whose lines lie one after the other.
///
/// # Safety
/// Between [`set_up`] and [`release`]; the lines are there.
#[inline(always)]
pub(super) unsafe fn load<const TO: usize>(from: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tileloadd tmm{to}, [{from} + {line}]", to = const TO, from = in(reg) from, line = in(reg) LINE,
            options(nostack, readonly));
    }
}

/// Adds to the sums in tile `TO` the products of tile `A`, 16 lines of signed bytes, with tile `B`, 16 columns of
/// unsigned ones, four by four.
///
/// # Safety
/// Between [`set_up`] and [`release`].
#[inline(always)]
pub(super) unsafe fn add_bytes<const TO: usize, const A: usize, const B: usize>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbsud tmm{to}, tmm{a}, tmm{b}", to = const TO, a = const A, b = const B,
            options(nostack, nomem));
    }
}

/// Writes tile `FROM`, line after line.
///
/// # Safety
/// Between [`set_up`] and [`release`]; there is room.
#[inline(always)]
pub(super) unsafe fn store<const FROM: usize>(to: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{to} + {line}], tmm{tile}", tile = const FROM, to = in(reg) to, line = in(reg) LINE,
            options(nostack));
    }
}
