//! Signed tokens (RFC 7519, HS256): the workspace signs them, the directory checks them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

pub struct Signer {
    key: hmac::Key,
    /// The length of a claim that makes tokens as long as real ones, in bytes.
    pub padding: AtomicUsize,
}

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Workspace,
    Database,
    /// Azure's resource manager.
    Management,
}

impl Scope {
    fn audience(self) -> &'static str {
        match self {
            Scope::Workspace | Scope::Database => "900800700600",
            Scope::Management => "https://management.azure.com/",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scope::Workspace => "all-apis",
            Scope::Database => "lakebase",
            Scope::Management => "management",
        }
    }
}

impl Signer {
    pub fn new() -> Signer {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
        Signer { key, padding: AtomicUsize::new(600) }
    }

    /// A token that is valid for `life` seconds. The issuer's clock is `skew` seconds ahead.
    pub fn sign(&self, subject: &str, scope: Scope, life: i64, skew: i64) -> String {
        let iat = now() + skew;
        let claims = json!({
            "iss": "https://sandbox.example/oidc",
            "sub": subject,
            "aud": scope.audience(),
            "scope": scope.name(),
            "iat": iat,
            "exp": iat + life,
            "jti": BASE64_URL_SAFE_NO_PAD.encode(random::<16>()),
            "padding": "x".repeat(self.padding.load(Ordering::SeqCst)),
        });
        self.sign_claims(&claims)
    }

    /// A token with these claims.
    pub fn sign_claims(&self, claims: &Value) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether this signer has signed the token.
    pub fn has_signed(&self, token: &str) -> bool {
        let Some((signed, tag)) = token.rsplit_once('.') else { return false };
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
        hmac::verify(&self.key, signed.as_bytes(), &tag).is_ok()
    }

    /// The subject, if the signature and the scope are right and the token has not expired.
    pub fn check(&self, token: &str, scope: Scope) -> Result<String, &'static str> {
        self.check_at(token, scope, now())
    }

    /// Like [`Signer::check`], at another time.
    pub fn check_at(&self, token: &str, scope: Scope, now: i64) -> Result<String, &'static str> {
        if !self.has_signed(token) {
            return Err("not a valid JWT encoding");
        }
        let (signed, _) = token.rsplit_once('.').ok_or("not a valid JWT encoding")?;
        let payload = signed.split_once('.').ok_or("not a valid JWT encoding")?.1;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| "not a valid JWT")?;
        let claims: Value = serde_json::from_slice(&payload).map_err(|_| "not a valid JWT")?;
        if claims["aud"] != scope.audience() {
            return Err("wrong audience");
        }
        if claims["scope"] != scope.name() {
            return Err("wrong scope");
        }
        if claims["exp"].as_i64().unwrap_or(0) <= now {
            return Err("expired");
        }
        Ok(claims["sub"].as_str().unwrap_or_default().to_owned())
    }
}

/// The claims of a JWT. Its signature is not checked.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
