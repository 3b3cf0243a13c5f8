//! Windows' own calls that have no safe wrapper in Rust's library: access control lists, jobs, console events,
//! the registry. `windows.rs` and `windows_acl.rs` use them.
//!
//! This is the only file with unsafe code. Each call gets pointers to values that live longer than the
//! call, and lengths taken from these values; where more is needed, a comment says it. The calls are
//! described at <https://learn.microsoft.com/windows/win32/api/>.
#![allow(unsafe_code)]

use std::ffi::{OsStr, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, OnceLock};

use windows_sys::Win32::Foundation::{
    GENERIC_ALL, HANDLE, HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE, LocalFree, SetHandleInformation,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, EqualSid, GetAce,
    GetSecurityDescriptorDacl, GetTokenInformation, INHERIT_ONLY_ACE, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_ATTRIBUTES, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner, TokenUser,
    WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid, WinCreatorOwnerSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL,
    FILE_BASIC_INFO, FileBasicInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType,
};
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
use windows_sys::Win32::System::SystemServices::{
    ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE,
    ACCESS_ALLOWED_CALLBACK_OBJECT_ACE_TYPE, ACCESS_ALLOWED_OBJECT_ACE_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::core::BOOL;

fn done(result: BOOL) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A text as the calls take it, with a final zero.
fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// Memory that a call has allocated.
struct LocalAllocation(*mut c_void);

impl Drop for LocalAllocation {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from a call whose result LocalFree frees, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// This process's user, and the owner of the files that it makes: for an elevated process, that is the
/// group of administrators.
struct Identity {
    user: Vec<u64>,
    owner: Vec<u64>,
    /// The user in the form `S-1-…`.
    shown: String,
}

impl Identity {
    fn of_process() -> io::Result<&'static Identity> {
        static IDENTITY: OnceLock<Identity> = OnceLock::new();
        if let Some(identity) = IDENTITY.get() {
            return Ok(identity);
        }
        let (user, owner) = (token_information(TokenUser)?, token_information(TokenOwner)?);
        let shown = text_of(user_in(&user))?;
        Ok(IDENTITY.get_or_init(|| Identity { user, owner, shown }))
    }

    fn is(&self, sid: PSID) -> bool {
        // SAFETY: the buffers hold the structures that GetTokenInformation has written.
        let owner = unsafe { (*self.owner.as_ptr().cast::<TOKEN_OWNER>()).Owner };
        // SAFETY: all three are valid SIDs.
        unsafe { EqualSid(sid, user_in(&self.user)) != 0 || EqualSid(sid, owner) != 0 }
    }
}

fn user_in(information: &[u64]) -> PSID {
    // SAFETY: the buffer holds the structure that GetTokenInformation has written.
    unsafe { (*information.as_ptr().cast::<TOKEN_USER>()).User.Sid }
}

/// In words of eight bytes, so that the structure is aligned.
fn token_information(class: i32) -> io::Result<Vec<u64>> {
    let mut token: HANDLE = null_mut();
    // SAFETY: GetCurrentProcess returns a handle that need not be closed.
    done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) })?;
    // SAFETY: the handle is ours and is closed once, when this is dropped.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };

    // A SID has 68 bytes at most (SECURITY_MAX_SID_SIZE).
    let mut buffer = vec![0_u64; 32];
    let mut length = 0;
    let size = size_of_val(buffer.as_slice()) as u32;
    // SAFETY: the length is that of the buffer.
    done(unsafe {
        let buffer = buffer.as_mut_ptr().cast();
        GetTokenInformation(token.as_raw_handle(), class, buffer, size, &mut length)
    })?;
    Ok(buffer)
}

fn text_of(sid: PSID) -> io::Result<String> {
    let mut text: *mut u16 = null_mut();
    // SAFETY: the SID is valid.
    done(unsafe { ConvertSidToStringSidW(sid, &mut text) })?;
    let _freed = LocalAllocation(text.cast());
    // SAFETY: the call has written a text that ends with a zero.
    let units = unsafe {
        let length = (0..).take_while(|n| *text.add(*n) != 0).count();
        std::slice::from_raw_parts(text, length)
    };
    Ok(String::from_utf16_lossy(units))
}

/// What protects a new file or folder: an access control list that gives this user all rights, gives no
/// other user any, and inherits nothing.
struct OwnerOnlyDescriptor(LocalAllocation);

impl OwnerOnlyDescriptor {
    fn new() -> io::Result<OwnerOnlyDescriptor> {
        let user = &Identity::of_process()?.shown;
        // Security Descriptor Definition Language: P protected, OICI inherited by files and folders.
        let text = format!("O:{user}D:P(A;OICI;FA;;;{user})");
        let text = wide(OsStr::new(&text));
        let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
        // SAFETY: the text ends with a zero.
        done(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                null_mut(),
            )
        })?;
        Ok(OwnerOnlyDescriptor(LocalAllocation(descriptor)))
    }

    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }
}

/// Opens a file with CreateFileW; if it creates the file, no other user has a right to it.
pub fn open_private(
    path: &Path,
    access: u32,
    share: u32,
    disposition: u32,
    flags: u32,
) -> io::Result<File> {
    let (name, private) = (wide(path.as_os_str()), OwnerOnlyDescriptor::new()?);
    let flags = flags | FILE_ATTRIBUTE_NORMAL;
    // SAFETY: the name ends with a zero.
    let handle = unsafe {
        let attributes = private.attributes();
        CreateFileW(name.as_ptr(), access, share, &attributes, disposition, flags, null_mut())
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is ours and is closed once, when the file is dropped.
    Ok(unsafe { File::from_raw_handle(handle) })
}

/// Makes a folder that only this user can enter.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let (name, private) = (wide(path.as_os_str()), OwnerOnlyDescriptor::new()?);
    // SAFETY: the name ends with a zero.
    done(unsafe { CreateDirectoryW(name.as_ptr(), &private.attributes()) })
}

/// Takes all rights to a file from other users.
pub fn make_private(file: &File) -> io::Result<()> {
    let private = OwnerOnlyDescriptor::new()?;
    let (mut present, mut defaulted) = (0, 0);
    let mut list: *mut ACL = null_mut();
    // SAFETY: the descriptor is valid; the list is a part of it.
    done(unsafe {
        GetSecurityDescriptorDacl(private.0.0, &mut present, &mut list, &mut defaulted)
    })?;
    let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the handle is open, and the list lives as long as `private`.
    let code = unsafe {
        let handle = file.as_raw_handle();
        SetSecurityInfo(handle, SE_FILE_OBJECT, what, null_mut(), null_mut(), list, null())
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code as i32)) }
}

/// Whether an open file is one of a disk, a pipe or something else (`FILE_TYPE_…`).
pub fn file_type(file: &File) -> u32 {
    // SAFETY: the handle is open.
    unsafe { GetFileType(file.as_raw_handle()) }
}

pub fn disk_metadata(file: &File) -> io::Result<(BY_HANDLE_FILE_INFORMATION, FILE_BASIC_INFO)> {
    let handle = file.as_raw_handle();
    let mut metadata = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open.
    done(unsafe { GetFileInformationByHandle(handle, &mut metadata) })?;
    let mut times = FILE_BASIC_INFO::default();
    // SAFETY: the handle is open, and the length is that of the structure.
    done(unsafe {
        let size = size_of::<FILE_BASIC_INFO>() as u32;
        GetFileInformationByHandleEx(handle, FileBasicInfo, (&raw mut times).cast(), size)
    })?;
    Ok((metadata, times))
}

/// The kind of trustee that a SID stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trustee {
    Us,
    /// The system, its administrators, and the installer that owns `Program Files`.
    System,
    /// The owner of the file.
    Owner,
    Other,
}

fn trustee(sid: PSID) -> io::Result<Trustee> {
    let is = |known: &i32| {
        // SAFETY: the SID is valid.
        unsafe { IsWellKnownSid(sid, *known) != 0 }
    };
    Ok(if sid.is_null() {
        Trustee::Other
    } else if Identity::of_process()?.is(sid) {
        Trustee::Us
    } else if [WinLocalSystemSid, WinBuiltinAdministratorsSid].iter().any(is)
        || text_of(sid)? == TRUSTED_INSTALLER
    {
        Trustee::System
    } else if [WinCreatorOwnerSid, WinCreatorOwnerRightsSid].iter().any(is) {
        Trustee::Owner
    } else {
        Trustee::Other
    })
}

/// `NT SERVICE\TrustedInstaller`, which owns Windows' own files and `Program Files`.
const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

/// The entries of an access control list: trustee and access mask.
pub type AccessEntries = Vec<(Trustee, u32)>;

/// The owner of an open file, and what each entry of its access control list allows. Without a list, all is
/// allowed to all.
pub fn owner_and_rights(file: &File) -> io::Result<(Trustee, Option<AccessEntries>)> {
    let security = Security::of(file.as_raw_handle())?;
    let owner = trustee(security.owner)?;
    if security.list.is_null() {
        return Ok((owner, None));
    }
    // SAFETY: the list is valid.
    let count = u32::from(unsafe { (*security.list).AceCount });
    let rights = (0..count).map(|n| security.entry(n)).collect::<io::Result<_>>()?;
    Ok((owner, Some(rights)))
}

/// The owner and the access control list of a file, both parts of the descriptor.
struct Security {
    owner: PSID,
    list: *mut ACL,
    _descriptor: LocalAllocation,
}

impl Security {
    fn of(handle: HANDLE) -> io::Result<Security> {
        let (mut owner, mut list): (PSID, *mut ACL) = (null_mut(), null_mut());
        let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
        // SAFETY: the handle is open; owner and list become parts of the descriptor.
        let code = unsafe {
            GetSecurityInfo(
                handle,
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                &mut owner,
                null_mut(),
                &mut list,
                null_mut(),
                &mut descriptor,
            )
        };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code as i32));
        }
        Ok(Security { owner, list, _descriptor: LocalAllocation(descriptor) })
    }

    /// The trustee and the access mask of an entry.
    fn entry(&self, n: u32) -> io::Result<(Trustee, u32)> {
        const NOTHING: (Trustee, u32) = (Trustee::Other, 0);
        let mut entry: *mut c_void = null_mut();
        // SAFETY: the list is valid and has this entry.
        done(unsafe { GetAce(self.list, n, &mut entry) })?;
        // SAFETY: every entry begins with this header.
        let header = unsafe { *entry.cast::<ACE_HEADER>() };
        let is_inherited_only = u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0;
        match u32::from(header.AceType) {
            _ if is_inherited_only => return Ok(NOTHING),
            ACCESS_ALLOWED_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_ACE_TYPE => (),
            // Other forms that allow something: it is not known to whom.
            ACCESS_ALLOWED_OBJECT_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_OBJECT_ACE_TYPE => {
                return Ok((Trustee::Other, GENERIC_ALL));
            }
            _ => return Ok(NOTHING),
        }

        let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
        // SAFETY: an entry of these types has a mask, and a SID that begins at `SidStart`.
        let (mask, sid) = unsafe { ((*entry).Mask, (&raw mut (*entry).SidStart).cast()) };
        Ok((trustee(sid)?, mask))
    }
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
