//! Files of certificates: each one that is taken from a file stands there in base64, and the reason for taking
//! none is one line of text.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebase_token::net::trust::certificates_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // tests/fuzz/run creates a temporary folder for each run.
    let file = std::env::temp_dir().join("ca.pem");
    std::fs::write(&file, data).unwrap();
    match certificates_in(&file) {
        Ok(certificates) => {
            let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
            // rustls goes on with a certificate where another one begins before its end.
            let lines = data.split(|byte| b"\r\n".contains(byte));
            let lines = lines.filter(|line| !line.starts_with(b"-----BEGIN "));
            let text: Vec<u8> = lines.flatten().copied().filter(is_base64).collect();
            assert!(!certificates.is_empty());
            for certificate in certificates {
                // The last three bytes may have unused bits.
                let whole = certificate.len() / 3 * 3;
                let encoded = STANDARD.encode(&certificate[..whole]);
                let holds = |part: &[u8]| part == encoded.as_bytes();
                assert!(encoded.is_empty() || text.windows(encoded.len()).any(holds));
            }
        }
        Err(why) => {
            assert!(why.starts_with(file.to_str().unwrap()) && !why.contains('\n'), "{why}")
        }
    }
});
