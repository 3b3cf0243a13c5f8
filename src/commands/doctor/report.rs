//! `doctor --report FILE`: what an issue needs, without anything private.
//!
//! A word passes if a string literal in `src` has it (`report_allowed_words.txt`), or if it is a known field,
//! setting, error code or SQLSTATE. Any other word becomes a placeholder, the same one each time: `<1>`. Names that the settings
//! or the workspace give are placeholders even if they consist of known words.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::auth::chain::PROVIDERS;
use crate::commands::doctor::assumptions::ASSUMPTIONS;
use crate::commands::doctor::findings::{Findings, Step};
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS, ValueKind};
use crate::credential::destination::domain_of;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::target_file::{HookMark, TargetFile};
use crate::platform::time::Deadline;

/// The words of all string literals in `src`, of which our messages are made, one a line;
/// `tests/it/report.rs` keeps the list.
const WORDS: &str = include_str!("report_allowed_words.txt");

/// The first line, by which a later report knows a file that it may replace.
const HEAD: &str = "# lakebase-token doctor --report";

/// Fields of answers (databricks-sdk-go, `service/postgres`, `service/database`, `service/iam`; RFC
/// 6749).
const FIELDS: &str = "\
    access_token active autoscaling_limit_max_cu autoscaling_limit_min_cu branch branches branch_time \
    budget_policy_id capacity claims code create_time creation_time creator credentials current_state \
    custom_tags database database_instances default default_branch delete_time details disabled display \
    displayName effective_capacity effective_stopped emails enable_readable_secondaries endpoint \
    endpoint_id endpoint_type endpoints entitlements error error_code error_description expiration_time \
    expire_time expires_in externalId family_name givenName group groups host hosts id instance \
    is_protected iss issuer last_active_time logical_size_bytes message meta name next_page_token \
    no_suspension parent pending_state pg_version primary project project_id projects purge_time \
    read_only_dns read_only_host read_only_pooled_host read_write_dns read_write_pooled_host ref \
    request_id resourceType roles schemas scope settings size source_branch spec start_time state \
    status stopped suspend_timeout_duration token token_endpoint token_type type uid update_time \
    usage_policy_id userName value";

/// Parts of the paths that requests go to.
const PATHS: &str = "\
    .well-known 2.0 Me api branches credentials database databricks-config endpoints instances \
    instances:findByUid oauth-authorization-server oidc postgres preview projects scim token v1 v2";

/// Error codes of Databricks (databricks-sdk-go `apierr`) and of RFC 6749.
const ERROR_CODES: &str = "\
    ABORTED ALREADY_EXISTS BAD_REQUEST CANCELLED DEADLINE_EXCEEDED INTERNAL_ERROR INVALID_PARAMETER_VALUE \
    INVALID_STATE MALFORMED_REQUEST NOT_FOUND NOT_IMPLEMENTED PERMISSION_DENIED QUOTA_EXCEEDED \
    REQUEST_LIMIT_EXCEEDED RESOURCE_CONFLICT RESOURCE_DOES_NOT_EXIST RESOURCE_EXHAUSTED \
    RESOURCE_LIMIT_EXCEEDED TEMPORARILY_UNAVAILABLE UNAUTHENTICATED UNKNOWN access_denied invalid_client \
    invalid_grant invalid_request invalid_scope unauthorized_client unsupported_grant_type";

/// Classes of SQLSTATE (PostgreSQL documentation, "PostgreSQL Error Codes").
const SQLSTATE_CLASSES: &str = "08 0A 22 28 3D 42 53 54 55 57 58 XX";

/// The file of a report, checked before the steps are tried.
pub struct ReportFile<'a> {
    file: TargetFile,
    context: &'a Context,
}

impl<'a> ReportFile<'a> {
    pub fn open(path: &str, context: &'a Context) -> Result<ReportFile<'a>> {
        let file = TargetFile::open(path.as_ref())?;
        file.check_folder()?;
        check_old(file.read()?.as_deref(), path)?;
        Ok(ReportFile { file, context })
    }

    pub fn write(&self, report: &str, deadline: Deadline) -> Result<String> {
        let path = self.file.path().display().to_string();
        let edit = |old: Option<&[u8]>| {
            check_old(old, &path)?;
            Ok(Some(report.as_bytes().to_vec()))
        };
        self.file.change(self.context, deadline, HookMark::None, &edit)?;
        Ok(path)
    }
}

/// Refuses to replace what is no report.
fn check_old(old: Option<&[u8]>, path: &str) -> Result<()> {
    let old = old.unwrap_or_default();
    if old.is_empty() || old.starts_with(HEAD.as_bytes()) {
        return Ok(());
    }
    Err(Error::usage(format!("{path} exists and was not written by doctor --report"))
        .hint("name a file that does not exist yet"))
}

/// The text of the report.
pub fn report(steps: &[Step], found: &Findings, settings: &Settings, code: u8) -> String {
    let mut placeholders = Placeholders::new(found, settings);
    let mut text = format!("{HEAD}\n\n");
    for (name, value) in summary(found) {
        let _ = writeln!(text, "{name:<16}{value}");
    }
    let _ = writeln!(text, "{:<16}{code}", "exit code");

    text.push_str("\n## Steps\n\n");
    for step in steps {
        let lines = step.text();
        lines.lines().for_each(|line| placeholders.line(&mut text, line));
    }
    text.push_str("\n## Requests\n\n");
    for exchange in &found.exchanges {
        let path: Vec<String> =
            exchange.path.split('/').map(|part| placeholders.part(part)).collect();
        let _ = write!(text, "{} {} {}", exchange.method, path.join("/"), exchange.status);
        for (field, kind) in &exchange.fields {
            let _ = write!(text, " {}:{kind}", placeholders.field(field));
        }
        text.push('\n');
    }
    text.push_str("\n## Assumptions\n\n");
    for assumption in ASSUMPTIONS {
        let verdict = match (assumption.holds)(found) {
            Some(true) => "confirmed",
            Some(false) => "REFUTED",
            None => "not tested",
        };
        let _ = writeln!(text, "{verdict:<12}{}", assumption.text);
    }
    text
}

fn summary(found: &Findings) -> Vec<(&'static str, String)> {
    let version = |text: &str| {
        let number = text.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let number = number.unwrap_or("unknown");
        number.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(12).collect::<String>()
    };
    let domain = |host: Option<&str>| match host.map(domain_of) {
        Some(Some(domain)) => format!("*{domain}"),
        Some(None) => "another domain".to_owned(),
        None => "not known".to_owned(),
    };
    let url = found.workspace.as_deref();
    let host =
        url.map(|url| url.trim_start_matches("https://").split(['/', ':']).next().unwrap_or(""));
    let credential = found.credential.as_ref();
    let mut versions = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("workspace", domain(host)),
        ("auth type", found.auth_type.unwrap_or("none").to_owned()),
        ("database", found.database.as_ref().map_or("not known", |known| known.kind()).to_owned()),
        ("postgres host", domain(credential.and_then(|known| known.connection.host.as_deref()))),
    ];
    if let Some(login) = &found.logged_in {
        versions.push(("postgres", version(&login.server_version)));
    }
    if let Some(psql) = &found.psql_version {
        versions.push(("psql", version(psql)));
    }
    versions
}

/// Replaces what may be private.
struct Placeholders {
    /// Names as they are, the longest first.
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

/// Settings whose values name something of the user's.
fn is_name(id: Id) -> bool {
    let row = &SETTINGS[id as usize];
    !matches!(id, Id::AuthType | Id::Scopes)
        && row.kind == ValueKind::Text
        && id as usize <= Id::PgUser as usize
}

impl Placeholders {
    fn new(found: &Findings, settings: &Settings) -> Placeholders {
        let values = settings.shown().filter(|(row, ..)| is_name(row.id));
        let mut names: Vec<String> = values.map(|(_, value, _)| value.to_owned()).collect();
        names.extend(settings.profile.iter().map(|(name, _)| name.clone()));
        names.extend(found.database.iter().map(|database| database.name().to_owned()));
        names.extend(found.workspace.clone());
        if let Some(me) = &found.identity {
            names.push(me.user_name.clone());
            names.extend(me.groups.iter().cloned());
        }
        if let Some(credential) = &found.credential {
            let connection = &credential.connection;
            let known = [&connection.user, &connection.host, &connection.database];
            names.extend(known.into_iter().flatten().cloned());
        }
        names.retain(|name| name.chars().count() > 1);
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.dedup();
        Placeholders { names, numbers: HashMap::new() }
    }

    fn placeholder(&mut self, text: &str) -> String {
        let next = self.numbers.len() + 1;
        format!("<{}>", self.numbers.entry(text.to_owned()).or_insert(next))
    }

    /// Adds a line of `doctor`.
    fn line(&mut self, text: &mut String, line: &str) {
        let mut line = line.to_owned();
        for name in self.names.clone() {
            if contains_word(&line, &name) {
                let placeholder = self.placeholder(&name);
                line = replace_word(&line, &name, &placeholder);
            }
        }

        let mut last = "";
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let shown = self.word(word, last);
                last = word;
                shown
            })
            .collect();
        let _ = writeln!(text, "{}", words.join(" "));
    }

    /// A word with the punctuation around it.
    fn word(&mut self, word: &str, before: &str) -> String {
        let is_mark = |c: char| "`'\"()[]{},.:;!?…/*#=".contains(c);
        let core = word.trim_matches(is_mark);
        if core.is_empty()
            || is_known(core)
            || is_status(core, before)
            || is_sqlstate(core)
            || is_placeholder(core)
        {
            return word.to_owned();
        }
        // As in PGHOST=… and --format=…
        let shown = match core.split_once('=') {
            Some((name, value)) if is_known(name) => {
                let value =
                    if is_placeholder(value) { value.to_owned() } else { self.placeholder(value) };
                format!("{name}={value}")
            }
            _ => self.placeholder(core),
        };
        word.replacen(core, &shown, 1)
    }

    /// A part of a path.
    fn part(&mut self, part: &str) -> String {
        let is_known = part.is_empty() || in_list(PATHS, part);
        if is_known { part.to_owned() } else { self.placeholder(part) }
    }

    /// The path of a field.
    fn field(&mut self, path: &str) -> String {
        let parts = path.split('.').map(|part| {
            let (name, list) = part.strip_suffix("[]").map_or((part, ""), |name| (name, "[]"));
            let name = if in_list(FIELDS, name) { name.to_owned() } else { self.placeholder(name) };
            format!("{name}{list}")
        });
        parts.collect::<Vec<_>>().join(".")
    }
}

fn is_known(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    WORDS.lines().any(|known| known == lower)
        || in_list(ERROR_CODES, word)
        || SETTINGS.iter().any(|row| {
            row.name == word || row.env.contains(&word) || word.strip_prefix("--") == Some(row.flag)
        })
        || PROVIDERS.iter().any(|provider| provider.name == word)
}

fn in_list(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

/// An HTTP status, as in `HTTP status 403`.
fn is_status(word: &str, before: &str) -> bool {
    before == "status" && word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit())
}

fn is_sqlstate(word: &str) -> bool {
    let is_code = |b: u8| b.is_ascii_digit() || b.is_ascii_uppercase();
    word.len() == 5 && word.bytes().all(is_code) && in_list(SQLSTATE_CLASSES, &word[..2])
}

fn is_placeholder(word: &str) -> bool {
    let number = word.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `name` is in `line`, and not inside of a longer word.
fn contains_word(line: &str, name: &str) -> bool {
    replace_word(line, name, "") != line
}

fn replace_word(line: &str, name: &str, with: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let is_inner = |c: char| c.is_alphanumeric() || c == '_';
        text.push_str(before);
        let is_whole = !text.ends_with(is_inner) && !after.starts_with(is_inner);
        text.push_str(if is_whole { with } else { name });
        rest = after;
    }
    text + rest
}
