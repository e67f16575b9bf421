// SPDX-License-Identifier: Apache-2.0
//! The unwinder of programs that abort when they panic, and have neither unwind tables nor symbols: none.
//!
//! The standard library asks an unwinder for the addresses on the stack, to print them with a panic's message. There is
//! nothing to find them by in such a program, and nobody to give them a name; but the asking alone would make the
//! libraries that read debugging information a part of it: 200 KB. The names are those of the C++ ABI for exception
//! handling, which the C library's cleanup paths refer to as well: they are entered only by unwinding, which nothing
//! begins.

use std::ffi::{c_int, c_void};
use std::process::abort;

/// `_URC_END_OF_STACK`: there is no frame.
const END_OF_STACK: c_int = 5;

/// Calls `trace` for no frame.
// SAFETY: the name is the linker's contract for this function, whose arguments are left alone; the other definition, in
// libgcc_eh, is not linked, since all that the program refers to in there is defined here.
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What only an unwinding enters, by itself or through the personality routines that it asks.
macro_rules! never {
    ($($name:ident)*) => {
        $(
            /// Nothing unwinds here.
            // SAFETY: as above; it takes nothing, and does not return.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> ! {
                abort()
            }
        )*
    };
}

never! {
    _Unwind_DeleteException
    _Unwind_FindEnclosingFunction
    _Unwind_ForcedUnwind
    _Unwind_GetCFA
    _Unwind_GetDataRelBase
    _Unwind_GetGR
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_RaiseException
    _Unwind_Resume
    _Unwind_Resume_or_Rethrow
    _Unwind_SetGR
    _Unwind_SetIP
    __gcc_personality_v0
}
