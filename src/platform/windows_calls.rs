//! Windows' own calls that have no safe wrapper in Rust's library: jobs, console events, the registry. `windows.rs`
//! uses them.
//!
//! Only this file and `windows_rights.rs` have unsafe code. Each call gets pointers to values that live longer than the
//! call, and lengths taken from these values; where more is needed, a comment says it. The calls are
//! described at <https://learn.microsoft.com/windows/win32/api/>.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use windows_sys::Win32::Foundation::{HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::System::Console::{
    CTRL_CLOSE_EVENT, FlushConsoleInputBuffer, GetConsoleMode, GetStdHandle, STD_ERROR_HANDLE,
    STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleCtrlHandler, SetConsoleMode,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_BASIC_ACCOUNTING_INFORMATION,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectBasicAccountingInformation,
    JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject,
    TerminateJobObject,
};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};
use windows_sys::Win32::System::Threading::GetCurrentProcess;
use windows_sys::core::BOOL;

pub(super) fn done(result: BOOL) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A text as the calls take it, with a final zero.
pub(super) fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}
/// Sets whether processes that are started from now on inherit this open file.
pub fn set_inherited(file: &File, inherited: bool) -> io::Result<()> {
    let flag = if inherited { HANDLE_FLAG_INHERIT } else { 0 };
    // SAFETY: the handle is open.
    done(unsafe { SetHandleInformation(file.as_raw_handle(), HANDLE_FLAG_INHERIT, flag) })
}

/// From now on no process that is started inherits our stdin, stdout and stderr unless it is given them.
/// Else a reader of our output would wait for each process that outlives us.
pub fn keep_own_streams() {
    for stream in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        // SAFETY: GetStdHandle returns a handle that need not be closed; a failure means that there is
        // none.
        unsafe { SetHandleInformation(GetStdHandle(stream), HANDLE_FLAG_INHERIT, 0) };
    }
}

/// A group of processes: those that are added, and all that they start.
pub struct Job(OwnedHandle);

impl Job {
    pub fn new() -> io::Result<Job> {
        // SAFETY: without a name and attributes there is nothing to point to.
        let handle = unsafe { CreateJobObjectW(null(), null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is ours and is closed once, when this is dropped.
        Ok(Job(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    pub fn add(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        // SAFETY: both handles are open.
        done(unsafe { AssignProcessToJobObject(self.handle(), process.as_raw_handle()) })
    }

    pub fn add_this_process(&self) -> io::Result<()> {
        // SAFETY: GetCurrentProcess returns a handle that need not be closed.
        done(unsafe { AssignProcessToJobObject(self.handle(), GetCurrentProcess()) })
    }

    /// Whether all its processes end when this process ends, and with it the last handle of the job.
    pub fn set_ends_with_us(&self, ends: bool) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        // What is to outlive the job may leave it: a renewal must not be killed.
        let ending = if ends { JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE } else { 0 };
        limits.BasicLimitInformation.LimitFlags = ending | JOB_OBJECT_LIMIT_BREAKAWAY_OK;
        // SAFETY: the length is that of the structure.
        done(unsafe {
            let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
            let limits = (&raw const limits).cast();
            SetInformationJobObject(self.handle(), JobObjectExtendedLimitInformation, limits, size)
        })
    }

    pub fn has_processes(&self) -> bool {
        let mut counts = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        // SAFETY: the length is that of the structure.
        let known = done(unsafe {
            let size = size_of::<JOBOBJECT_BASIC_ACCOUNTING_INFORMATION>() as u32;
            let (class, counts) = (JobObjectBasicAccountingInformation, (&raw mut counts).cast());
            QueryInformationJobObject(self.handle(), class, counts, size, null_mut())
        });
        known.is_err() || counts.ActiveProcesses > 0
    }

    /// Ends all its processes.
    pub fn end(&self) -> io::Result<()> {
        // SAFETY: the handle is open.
        done(unsafe { TerminateJobObject(self.handle(), 1) })
    }

    fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

type OnEvent = Box<dyn FnOnce() + Send>;

/// What the next event of the console leads to; without it, an event has no effect.
static ON_EVENT: Mutex<Option<OnEvent>> = Mutex::new(None);

/// From now on Ctrl-C, Ctrl-Break and the end of the console do not end this process; the first of them
/// leads to `then`. Processes that are started later are not concerned.
pub fn on_console_event(then: Option<OnEvent>) -> io::Result<()> {
    if let Ok(mut kept) = ON_EVENT.lock() {
        *kept = then;
    }
    // SAFETY: the function lives as long as the program.
    done(unsafe { SetConsoleCtrlHandler(Some(handle_event), 1) })
}

/// Runs in a thread of its own.
unsafe extern "system" fn handle_event(event: u32) -> BOOL {
    let then = ON_EVENT.lock().ok().and_then(|mut kept| kept.take());
    match then {
        Some(then) => then(),
        // After the end of the console, Windows ends us when this returns. Our child gets the event, too,
        // and has the same time to end.
        None if event >= CTRL_CLOSE_EVENT => loop {
            std::thread::park();
        },
        None => (),
    }
    1
}

/// The mode of the console that is our stdin.
pub fn input_mode() -> io::Result<u32> {
    let mut mode = 0;
    // SAFETY: GetStdHandle returns a handle that need not be closed.
    done(unsafe { GetConsoleMode(GetStdHandle(STD_INPUT_HANDLE), &mut mode) })?;
    Ok(mode)
}

/// Forgets what was typed and not read.
pub fn discard_input() {
    // SAFETY: GetStdHandle returns a handle that need not be closed.
    unsafe { FlushConsoleInputBuffer(GetStdHandle(STD_INPUT_HANDLE)) };
}

pub fn set_input_mode(mode: u32) -> io::Result<()> {
    // SAFETY: GetStdHandle returns a handle that need not be closed.
    done(unsafe { SetConsoleMode(GetStdHandle(STD_INPUT_HANDLE), mode) })
}

/// The id that the installation of Windows has given this machine.
pub fn machine_guid() -> Option<String> {
    let key = wide(OsStr::new(r"SOFTWARE\Microsoft\Cryptography"));
    let name = wide(OsStr::new("MachineGuid"));
    let mut buffer = [0_u16; 64];
    let mut bytes = size_of_val(&buffer) as u32;
    // SAFETY: both names end with a zero, and the length is that of the buffer.
    let code = unsafe {
        let (kind, buffer) = (null_mut(), buffer.as_mut_ptr().cast());
        let (key, name) = (key.as_ptr(), name.as_ptr());
        RegGetValueW(HKEY_LOCAL_MACHINE, key, name, RRF_RT_REG_SZ, kind, buffer, &mut bytes)
    };
    let end = buffer.iter().position(|unit| *unit == 0)?;
    (code == 0).then(|| String::from_utf16_lossy(&buffer[..end]))
}
