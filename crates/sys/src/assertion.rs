// SPDX-License-Identifier: Apache-2.0
//! What a broken assertion of the C library's says.
//!
//! glibc's says it through gettext and a printf that writes to wide streams too, which nothing else takes from there: 27 KB
//! of a static program.

use std::ffi::{CStr, c_char, c_uint};
use std::process::abort;

/// assert(3)'s failure in the C library: says what does not hold, and aborts.
///
/// # Safety
///
/// `assertion` ends with a zero.
// SAFETY: the name is the linker's contract for this function, whose arguments are those of <assert.h>; the other
// definition, in libc.a, is not linked, since what the program refers to in there is defined here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __assert_fail(
    assertion: *const c_char,
    _file: *const c_char,
    _line: c_uint,
    _function: *const c_char,
) -> ! {
    // SAFETY: it ends with a zero, by the contract above, and is a constant of the caller's.
    let assertion = unsafe { CStr::from_ptr(assertion) };
    // No text is put together: what is broken may be the heap.
    for part in [c"the C library finds untrue: ", assertion, c"\n"] {
        let _ = rustix::io::write(rustix::stdio::stderr(), part.to_bytes());
    }
    abort()
}
