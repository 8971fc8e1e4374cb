//! Pages that a child writes and the server reads: the only way out of a child, and one that needs no system
//! call.
#![expect(unsafe_code, reason = "memory shared between processes has no safe form")]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::param::page_size;

/// What a child can say at most. A report and a program of 4,096 instructions (32 KiB) are less.
pub(super) const CAPACITY: usize = 64 * 1024 - HEADER;
/// The length word, and padding.
const HEADER: usize = 8;

/// One mapping, shared with the one child that is forked while it is [open](Region::new), and a forbidden page
/// behind it.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    /// Of the shared part; the forbidden page comes behind it.
    shared: usize,
    whole: usize,
}

impl Region {
    pub(super) fn new() -> io::Result<Self> {
        let shared = (HEADER + CAPACITY).next_multiple_of(page_size());
        let whole = shared + page_size();
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let region = Self { start, shared, whole };
        // SAFETY: the range is the first part of the mapping just made.
        if unsafe { libc::mprotect(start.as_ptr().cast(), shared, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(region)
    }

    /// Keeps later children from inheriting it: what one says is not for another to read or to write.
    pub(super) fn close_to_others(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; DONTFORK changes nothing in this process.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.whole, libc::MADV_DONTFORK) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Says something; the last word counts. More than [`CAPACITY`] bytes say nothing.
    pub(super) fn write(&self, bytes: &[u8]) {
        let Some(length) = u32::try_from(bytes.len())
            .ok()
            .filter(|_| bytes.len() <= CAPACITY)
        else {
            return;
        };
        self.length().store(0, Ordering::Release);
        // SAFETY: the target holds CAPACITY bytes behind the header; this process is single-threaded, and the
        // server does not read before this process has ended.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(HEADER), bytes.len()) };
        self.length().store(length, Ordering::Release);
    }

    /// What the child said. Only after it has ended; `None` if it said nothing.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let length = self.length().load(Ordering::Acquire) as usize;
        if length == 0 || length > CAPACITY {
            return None;
        }
        let mut bytes = vec![0; length];
        // SAFETY: the source holds CAPACITY bytes behind the header, and the only other process that had the
        // mapping has ended.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(HEADER), bytes.as_mut_ptr(), length) };
        Some(bytes)
    }

    /// Ends the process by touching the forbidden page, which no filter can deny. Loops should the touch
    /// return, until a limit ends it.
    pub(super) fn touch_forbidden_page(&self) -> ! {
        loop {
            // SAFETY: the page belongs to this mapping and to no object of Rust. It is mapped without access,
            // so nothing is written: the kernel ends the process.
            unsafe { self.start.as_ptr().add(self.shared).write_volatile(0) };
        }
    }

    fn length(&self) -> &AtomicU32 {
        // SAFETY: the mapping begins page-aligned, holds a u32 there that is only used as an atomic, and lives
        // as long as `self`.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().cast()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it longer than from `self`. It cannot
        // fail on a mapping as it was made.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.whole) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let region = Region::new().unwrap();
        assert_eq!(region.read(), None);
        region.write(b"first words");
        region.write(b"last");
        assert_eq!(region.read().as_deref(), Some(&b"last"[..]));
    }

    #[test]
    fn a_region_holds_its_capacity_and_no_more() {
        let region = Region::new().unwrap();
        region.write(&vec![7; CAPACITY + 1]);
        assert_eq!(region.read(), None);
        region.write(&vec![7; CAPACITY]);
        assert_eq!(region.read(), Some(vec![7; CAPACITY]));
    }

    #[test]
    fn a_length_that_is_a_lie_says_nothing() {
        let region = Region::new().unwrap();
        region.length().store(u32::MAX, Ordering::Release);
        assert_eq!(region.read(), None);
    }
}
