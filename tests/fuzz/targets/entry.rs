//! A cache entry with some changed bytes is a miss, or gives what was stored.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use lakebase_token::cache::store::{CacheFolder, CacheInputs};
use lakebase_token::config::settings::Settings;
use lakebase_token::credential::secret::Secret;
use lakebase_token::credential::token::Token;
use lakebase_token::platform::context::Context;
use lakebase_token::platform::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static STORED: OnceLock<(PathBuf, Vec<u8>, Timestamp)> = OnceLock::new();
    let context = Context { say: Box::new(|_| ()), ..Context::of_process() };
    let secret = Secret::new("dose0123456789");
    // tests/fuzz/run creates a temporary folder for each run.
    let folder = std::env::temp_dir().join("entry");
    let settings = Settings::default();
    let inputs = CacheInputs {
        context: &context,
        folder: Some(&folder),
        secret: Some(secret),
        settings: &settings,
        login_files: |_, _| Vec::new(),
        route_variables: &[],
    };
    let cache = CacheFolder::new(&["https://x", "me"], inputs);
    let slot = cache.slot::<Token>(&["database"]);
    let (path, stored, issued) = STORED.get_or_init(|| {
        let now = context.now();
        let expires = Some(now.plus(3_600_000));
        let token = Secret::new("eyJ.token.text");
        let subject = Some("ada".to_owned());
        slot.store(&Token { secret: token, issued: now, expires, lifetime: 3_600_000, subject });
        let mut files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let path = files.find(|path| path.extension().is_none()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes, now)
    });
    // Four bytes an edit: position, kind and new byte.
    let mut bytes = stored.clone();
    for edit in data.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] % 4 {
            0 => bytes.insert(at, edit[3]),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at.max(1)),
            _ if at < bytes.len() => bytes[at] = edit[3],
            _ => (),
        }
    }
    std::fs::write(path, &bytes).unwrap();
    if let Some(token) = slot.load() {
        assert_eq!(token.secret.expose(), "eyJ.token.text");
        assert_eq!((token.subject.as_deref(), token.lifetime), (Some("ada"), 3_600_000));
        assert_eq!((token.issued, token.expires), (*issued, Some(issued.plus(3_600_000))));
    }
});
