// SPDX-License-Identifier: Apache-2.0
//! What the kernel itself answers in the place of a filter, for calls that are never made. Only tests ask; x86_64 has
//! three ways into the kernel, and a test needs all of them.
//!
//! A child loads a program that refuses everything, each time with an errno that stands for what was meant, and makes the
//! calls. It shares memory with the caller, since nothing else would get out:
//!
//! ```text
//! caller                     child
//! clone ───────────────────► no_new_privs, core limit 0, seccomp(2)
//!   wait for LOADED  ◄────── LOADED
//!   dump (ptrace)
//!   GO ────────────────────► call, store the answer; again; DONE; an illegal instruction, for it can't exit
//!   reap  ◄───────────────── SIGILL
//! ```

use std::arch::asm;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};
use crate::process::{self, ChildOf, Cloned, Namespaces, Wait};
use crate::seccomp::{self, Flags, Instruction};

/// Returns a constant; the one way out that a trial's program may have (BPF_RET | BPF_K).
const RETURN: u16 = 0x06;
/// Every other way out (BPF_RET).
const RETURN_CLASS: u16 = 0x06;
const CLASS: u16 = 0x07;
/// SECCOMP_RET_ERRNO.
const ERRNO: u32 = 0x0005_0000;
const LARGEST_ERRNO: u32 = 4095;

const LOADED: u32 = 1;
const REFUSED: u32 = 2;
const GO: u32 = 3;
const DONE: u32 = 4;

/// How long the child may take for a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The instruction `syscall`: x86_64, and x32 by its bit in the number.
    Syscall,
    /// The interrupt 0x80: i386, with the lower halves of the arguments.
    Interrupt,
}

/// A call that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// How it comes.
    pub way: Way,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What came of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// The errno of each question, in their order.
    pub answers: Vec<i64>,
    /// The program as the kernel gives it back; an error where it gives none back (it needs CAP_SYS_ADMIN and
    /// CONFIG_CHECKPOINT_RESTORE).
    pub dumped: Result<Vec<Instruction>>,
}

/// Calls that no filter sees: the traps of user space probes go past seccomp (uretprobe since Linux 6.14, uprobe since
/// 6.18), and end a process that makes them by itself.
pub const UNFILTERED: [u32; 2] = [335, 336];

/// Loads `program` in a child and has it make the calls. Every way out of the program must be an errno: anything else
/// could let a call through, and is EINVAL; so is a question that no filter is asked. The caller has one thread.
pub fn ask(program: &[Instruction], questions: &[Question]) -> Result<Outcome> {
    if let Some(wrong) = program.iter().position(|instruction| !refuses(instruction)) {
        return Err(Error::new(
            "trial",
            format!("instruction {wrong} returns no errno"),
            Errno::INVAL,
        ));
    }
    let past = |question: &&Question| {
        question.way == Way::Syscall && UNFILTERED.contains(&question.number)
    };
    if let Some(question) = questions.iter().find(past) {
        return Err(Error::new("trial", format!("{question:?}"), Errno::INVAL));
    }
    let board = Board::new(questions.len())?;
    match process::clone(Namespaces::empty(), None, ChildOf::Caller)? {
        Cloned::Child => answer(program, questions, &board),
        Cloned::Parent { pid, pidfd } => {
            let state = board.wait_past(0)?;
            let dumped = match state {
                LOADED => dump(pid),
                _ => return Err(refused(&board, &pidfd, program)),
            };
            board.state().store(GO, Ordering::Release);
            let exit = process::reap(std::os::fd::AsFd::as_fd(&pidfd), Wait::Block)?;
            if board.state().load(Ordering::Acquire) != DONE {
                return Err(Error::new(
                    "trial",
                    format!(
                        "the child ended with {exit:?} in state {}",
                        board.state().load(Ordering::Acquire)
                    ),
                    Errno::CHILD,
                ));
            }
            let answers = (0..questions.len()).map(|at| board.answer(at).load(Ordering::Relaxed));
            Ok(Outcome {
                answers: answers.collect(),
                dumped,
            })
        }
    }
}

/// Whether an instruction is no way out, or one that refuses.
fn refuses(instruction: &Instruction) -> bool {
    if instruction.code & CLASS != RETURN_CLASS {
        return true;
    }
    let errnos = ERRNO + 1..=ERRNO + LARGEST_ERRNO;
    instruction.code == RETURN && errnos.contains(&instruction.k)
}

/// The error of a child that could not load the program: its errno is the first answer.
fn refused(board: &Board, pidfd: &std::os::fd::OwnedFd, program: &[Instruction]) -> Error {
    // The child ends by itself; what it ended with says no more than its answer does.
    process::reap(std::os::fd::AsFd::as_fd(pidfd), Wait::Block).ok();
    let raw = board.answer(0).load(Ordering::Relaxed);
    let errno = Errno::from_raw_os_error(i32::try_from(raw).unwrap_or(libc::EINVAL));
    Error::new("seccomp", format!("{} instructions", program.len()), errno)
}

/// The child's side.
fn answer(program: &[Instruction], questions: &[Question], board: &Board) -> ! {
    let prepared = process::set_limit(0, libc::RLIMIT_CORE, Some(0), Some(0))
        .and_then(|()| process::forbid_new_privileges())
        .and_then(|()| process::die_with_parent(true))
        .and_then(|()| seccomp::load(program, Flags::empty()));
    if let Err(error) = prepared {
        board
            .answer(0)
            .store(error.errno().raw_os_error().into(), Ordering::Relaxed);
        board.state().store(REFUSED, Ordering::Release);
        process::exit_now(1);
    }
    // From here on no call of ours does anything.
    board.state().store(LOADED, Ordering::Release);
    while board.state().load(Ordering::Acquire) != GO {
        std::hint::spin_loop();
    }
    for (at, question) in questions.iter().enumerate() {
        let answer = match question.way {
            Way::Syscall => by_syscall(question),
            Way::Interrupt => by_interrupt(question),
        };
        board.answer(at).store(-answer, Ordering::Relaxed);
    }
    board.state().store(DONE, Ordering::Release);
    // SAFETY: an illegal instruction ends the process; there is nothing after it. Not `nomem`: the stores above must have
    // happened.
    unsafe { asm!("ud2", options(noreturn, nostack)) }
}

fn by_syscall(question: &Question) -> i64 {
    let [a, b, c, d, e, f] = question.arguments;
    let answer;
    // SAFETY: the loaded program refuses every call (`refuses`), so the kernel does nothing but set rax; `syscall` itself
    // overwrites rcx and r11, which are said, and touches neither stack nor memory.
    unsafe {
        asm!("syscall", inlateout("rax") u64::from(question.number) => answer, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

fn by_interrupt(question: &Question) -> i64 {
    let answer: u64;
    // SAFETY: as above. rbx and rbp may not be named, so they are kept on the stack (no `nostack`) over the interrupt;
    // rdi holds the address of six whole u64 until the last of them has been read. The kernel clears r8 to r11.
    unsafe {
        asm!("push rbx", "push rbp",
            "mov ebx, dword ptr [rdi]", "mov ecx, dword ptr [rdi + 8]", "mov edx, dword ptr [rdi + 16]",
            "mov esi, dword ptr [rdi + 24]", "mov ebp, dword ptr [rdi + 40]", "mov edi, dword ptr [rdi + 32]",
            "int 0x80", "pop rbp", "pop rbx",
            inlateout("rax") u64::from(question.number) => answer, inlateout("rdi") question.arguments.as_ptr() => _,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _, lateout("r8") _, lateout("r9") _, lateout("r10") _,
            lateout("r11") _);
    }
    // What i386 programs see is the lower half, signed.
    i64::from(answer as u32 as i32)
}

/// The last filter of a child, as the kernel kept it.
fn dump(pid: i32) -> Result<Vec<Instruction>> {
    let ptrace = |request: libc::c_uint, address: usize, data: usize| {
        // SAFETY: the requests that are made here write at most to `data`, which is null or a buffer of as many
        // instructions as the kernel said that it would write.
        let answer = unsafe { libc::ptrace(request, pid, address, data) };
        match answer {
            -1 => Err(Error::last("ptrace", format!("{request:#x} {pid}"))),
            count => Ok(count),
        }
    };
    ptrace(libc::PTRACE_SEIZE, 0, 0)?;
    ptrace(libc::PTRACE_INTERRUPT, 0, 0)?;
    let mut status = 0;
    // SAFETY: `status` is a whole int that lives over the call.
    if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } != pid {
        return Err(Error::last("waitpid", pid.to_string()));
    }
    let read = || {
        let count = ptrace(PTRACE_SECCOMP_GET_FILTER, 0, 0)?;
        let count = usize::try_from(count).unwrap_or(0);
        let mut code = vec![Instruction::plain(0, 0); count];
        ptrace(PTRACE_SECCOMP_GET_FILTER, 0, code.as_mut_ptr().addr())?;
        Ok(code)
    };
    let code = read();
    ptrace(libc::PTRACE_DETACH, 0, 0)?;
    code
}

const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;

/// The memory that both sides see: a state, then an answer for each question.
struct Board {
    start: NonNull<AtomicI64>,
    answers: usize,
}

impl Board {
    fn new(answers: usize) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let length = (answers + 1) * size_of::<AtomicI64>();
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self {
                start: start.cast(),
                answers,
            }),
            _ => Err(Error::last("mmap", format!("{length} shared bytes"))),
        }
    }

    fn state(&self) -> &AtomicU32 {
        // SAFETY: the mapping is page-aligned, zeroed, has at least eight bytes and lives as long as `self`; all access
        // of both processes is atomic.
        unsafe { self.start.cast().as_ref() }
    }

    fn answer(&self, at: usize) -> &AtomicI64 {
        // The first cell is the state, and the mapping always has room for the first answer: a page.
        let cell = 1 + at.min(self.answers.saturating_sub(1));
        // SAFETY: the mapping has a cell for the state and one for each answer, and `cell` is below their number (or 1,
        // in a mapping of one page).
        let cell = unsafe { self.start.add(cell) };
        // SAFETY: as for the state.
        unsafe { cell.as_ref() }
    }

    fn wait_past(&self, state: u32) -> Result<u32> {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.state().load(Ordering::Acquire);
            if now != state {
                return Ok(now);
            }
            if Instant::now() > end {
                return Err(Error::new(
                    "trial",
                    "no word from the child",
                    Errno::TIMEDOUT,
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let length = (self.answers + 1) * size_of::<AtomicI64>();
        // SAFETY: exactly the mapping of `new`, which nobody borrows any more; the child has a mapping of its own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_could_let_a_call_through_is_refused() {
        let ways_out = [
            (RETURN, 0x7fff_0000),
            (RETURN, ERRNO),
            (RETURN, ERRNO + LARGEST_ERRNO + 1),
            (RETURN, 0),
            (0x16, ERRNO + 1),
        ];
        for (code, k) in ways_out {
            let last = Instruction::plain(RETURN, ERRNO + 1);
            let error = ask(&[last, Instruction::plain(code, k)], &[]).unwrap_err();
            assert_eq!(error.errno(), Errno::INVAL, "{code:#x} {k:#x}");
            assert!(error.to_string().contains("instruction 1"), "{error}");
        }
        let question = Question {
            way: Way::Syscall,
            number: UNFILTERED[0],
            arguments: [0; 6],
        };
        let refuse = Instruction::plain(RETURN, ERRNO + 1);
        assert_eq!(
            ask(&[refuse], &[question]).unwrap_err().errno(),
            Errno::INVAL
        );
    }
}
