//! Windows' calls about files: who may do what with them, and facts that Rust's library does not have.
//!
//! An access control list is read as the mode that Unix would have for it, and a private file gets one for
//! its owner alone. Like `windows_calls.rs`, this file has unsafe code, under the same rules.
#![allow(unsafe_code)]

use std::ffi::{OsStr, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{
    GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE, LocalFree,
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
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, CreateFileW, DELETE, FILE_ADD_FILE,
    FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_NORMAL, FILE_ATTRIBUTE_READONLY, FILE_BASIC_INFO,
    FILE_DELETE_CHILD, FILE_READ_DATA, FILE_TYPE_DISK, FILE_TYPE_PIPE, FileBasicInfo,
    GetFileInformationByHandle, GetFileInformationByHandleEx, GetFileType, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::{
    ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE,
    ACCESS_ALLOWED_CALLBACK_OBJECT_ACE_TYPE, ACCESS_ALLOWED_OBJECT_ACE_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::platform::file_facts::{FileFacts, FileKind};
use crate::platform::windows_calls::{done, wide};
/// The owners that [`FileFacts`] tells apart.
pub const SYSTEM: u32 = 0;
pub const THIS_USER: u32 = 1;
const ANOTHER_USER: u32 = 2;

/// `NT SERVICE\TrustedInstaller`, which owns Windows' own files and `Program Files`.
const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
/// Memory that a call has allocated.
struct Local(*mut c_void);

impl Drop for Local {
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
    let _freed = Local(text.cast());
    // SAFETY: the call has written a text that ends with a zero.
    let units = unsafe {
        let length = (0..).take_while(|n| *text.add(*n) != 0).count();
        std::slice::from_raw_parts(text, length)
    };
    Ok(String::from_utf16_lossy(units))
}

/// What protects a new file or folder: an access control list that gives this user all rights, gives no
/// other user any, and inherits nothing.
struct Private(Local);

impl Private {
    fn new() -> io::Result<Private> {
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
        Ok(Private(Local(descriptor)))
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
    let (name, private) = (wide(path.as_os_str()), Private::new()?);
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
    let (name, private) = (wide(path.as_os_str()), Private::new()?);
    // SAFETY: the name ends with a zero.
    done(unsafe { CreateDirectoryW(name.as_ptr(), &private.attributes()) })
}

/// Takes all rights to a file from other users.
pub fn make_private(file: &File) -> io::Result<()> {
    let private = Private::new()?;
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

/// The facts of an open file or folder. The bits of its mode are those that Unix would have for what its
/// access control list allows: all to this user, and to others what anyone has who is not the system.
pub fn facts(file: &File, is_symlink: bool) -> io::Result<FileFacts> {
    let handle = file.as_raw_handle();
    // SAFETY: the handle is open.
    let kind_of_handle = unsafe { GetFileType(handle) };
    if kind_of_handle != FILE_TYPE_DISK {
        let is_pipe = kind_of_handle == FILE_TYPE_PIPE;
        return Ok(facts_of_no_file(if is_pipe { FileKind::Fifo } else { FileKind::Other }, 0o600));
    }

    let mut info = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open.
    done(unsafe { GetFileInformationByHandle(handle, &mut info) })?;
    let is_folder = info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0;
    let is_read_only = !is_folder && info.dwFileAttributes & FILE_ATTRIBUTE_READONLY != 0;
    let own = match (is_folder, is_read_only) {
        (true, _) => 0o700,
        (_, true) => 0o400,
        (_, false) => 0o600,
    };
    let (owner, others) = rights(handle, is_folder)?;
    let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    Ok(FileFacts {
        kind: match (is_symlink, is_folder) {
            (true, _) => FileKind::Symlink,
            (_, true) => FileKind::Folder,
            (_, false) => FileKind::Regular,
        },
        owner,
        group: 0,
        mode: own | others,
        size: both(info.nFileSizeHigh, info.nFileSizeLow),
        links: info.nNumberOfLinks.into(),
        inode: both(info.nFileIndexHigh, info.nFileIndexLow),
        changed: times_of_change(handle)?,
    })
}

fn facts_of_no_file(kind: FileKind, mode: u32) -> FileFacts {
    let (owner, changed) = (THIS_USER, (0, 0));
    FileFacts { kind, owner, group: 0, mode, size: 0, links: 1, inode: 0, changed }
}

/// The facts of a file or folder whose rights may not be read, as if it were another user's, open to all;
/// an error if it is a link.
pub fn facts_without_rights(path: &Path) -> io::Result<FileFacts> {
    let meta = path.symlink_metadata()?;
    let kind = if meta.is_dir() { FileKind::Folder } else { FileKind::Regular };
    if meta.file_type().is_symlink() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(FileFacts { owner: ANOTHER_USER, ..facts_of_no_file(kind, 0o777) })
}

fn times_of_change(handle: HANDLE) -> io::Result<(i64, i64)> {
    let mut times = FILE_BASIC_INFO::default();
    // SAFETY: the handle is open, and the length is that of the structure.
    done(unsafe {
        let size = size_of::<FILE_BASIC_INFO>() as u32;
        GetFileInformationByHandleEx(handle, FileBasicInfo, (&raw mut times).cast(), size)
    })?;
    Ok((times.ChangeTime, times.LastWriteTime))
}

/// The owner and the access control list of a file, both parts of the descriptor.
struct Security {
    owner: PSID,
    list: *mut ACL,
    _descriptor: Local,
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
        Ok(Security { owner, list, _descriptor: Local(descriptor) })
    }
}

/// Who owns an open file, and what others may do with it as bits of a mode.
fn rights(handle: HANDLE, is_folder: bool) -> io::Result<(u32, u32)> {
    let us = Identity::of_process()?;
    let security = Security::of(handle)?;
    let owner = if security.owner.is_null() {
        ANOTHER_USER
    } else if us.is(security.owner) {
        THIS_USER
    } else if is_system(security.owner) {
        SYSTEM
    } else {
        ANOTHER_USER
    };
    // A file without a list is open to everybody.
    if security.list.is_null() {
        return Ok((owner, 0o066));
    }

    let mut others = 0;
    // SAFETY: the list is valid.
    for n in 0..u32::from(unsafe { (*security.list).AceCount }) {
        others |= rights_of_others(&security, n, us)?;
    }
    Ok((owner, bits_of(others, is_folder)))
}

/// What one entry of the list allows to others.
fn rights_of_others(security: &Security, n: u32, us: &Identity) -> io::Result<u32> {
    let mut entry: *mut c_void = null_mut();
    // SAFETY: the list is valid and has this entry.
    done(unsafe { GetAce(security.list, n, &mut entry) })?;
    // SAFETY: every entry begins with this header.
    let header = unsafe { *entry.cast::<ACE_HEADER>() };
    let is_inherited_only = u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0;
    match u32::from(header.AceType) {
        _ if is_inherited_only => return Ok(0),
        ACCESS_ALLOWED_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_ACE_TYPE => (),
        // Other forms that allow something: it is not known to whom.
        ACCESS_ALLOWED_OBJECT_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_OBJECT_ACE_TYPE => {
            return Ok(GENERIC_ALL);
        }
        _ => return Ok(0),
    }

    let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
    // SAFETY: an entry of these types has a mask, and a SID that begins at `SidStart`.
    let (mask, sid) = unsafe { ((*entry).Mask, (&raw mut (*entry).SidStart).cast()) };
    let is_other = !us.is(sid) && !is_system(sid) && !stands_for_the_owner(sid);
    Ok(if is_other { mask } else { 0 })
}

/// The rights that matter, as bits of a mode: to read, and to change or replace. The right to append, in
/// a folder that to make folders, is left out: everybody has it in `C:\`. The right to add files to a
/// folder replaces none: it comes with the sticky bit.
fn bits_of(mask: u32, is_folder: bool) -> u32 {
    const READ: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL;
    const REPLACE: u32 =
        FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;
    let read = if mask & READ != 0 { 0o044 } else { 0 };
    // FILE_ADD_FILE has the value of FILE_WRITE_DATA.
    let change = match (mask & REPLACE != 0, mask & FILE_ADD_FILE != 0) {
        (true, _) => 0o022,
        (false, true) if is_folder => 0o1022,
        (false, true) => 0o022,
        (false, false) => 0,
    };
    read | change
}

/// The system, its administrators, and the installer that owns `Program Files`.
fn is_system(sid: PSID) -> bool {
    // SAFETY: the SID is valid.
    let is_known = [WinLocalSystemSid, WinBuiltinAdministratorsSid]
        .iter()
        .any(|known| unsafe { IsWellKnownSid(sid, *known) != 0 });
    is_known || text_of(sid).is_ok_and(|text| text == TRUSTED_INSTALLER)
}

fn stands_for_the_owner(sid: PSID) -> bool {
    // SAFETY: the SID is valid.
    [WinCreatorOwnerSid, WinCreatorOwnerRightsSid]
        .iter()
        .any(|known| unsafe { IsWellKnownSid(sid, *known) != 0 })
}
