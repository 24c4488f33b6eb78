//! Room for packed numbers that begins at a line of the caches.

#![allow(unsafe_code, reason = "lines are numbers, one behind the other")]

/// A line of the caches, so that no register lies across two.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    _numbers: [f32; 16],
}

/// Numbers that are written before they are read; kept from one product to the next.
#[derive(Debug, Default)]
pub(in super::super) struct Room(Vec<Line>);

impl Room {
    /// Without any.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for `len` numbers of any value.
    pub fn of(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line::default());
        }
        // SAFETY: so many lines are there, each of 16 numbers without a gap, borrowed as long as the result.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }

    /// The numbers there.
    pub fn numbers(&self) -> &[f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    /// Where the numbers begin.
    pub fn from(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }
}
