//! All tests that need more than one module, in one binary.
//!
//! Most call the program as a function (`support::Test`) in a context of their own: a list for the
//! environment, a clock that the test moves, a stand-in workspace on loopback. A test starts the
//! executable only if it is about processes: locks, exec, pipes, signals, real consumers.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../sandbox/mod.rs"]
mod sandbox;

#[cfg(unix)]
mod machine;
mod stopwatch;
mod support;

#[cfg(unix)]
mod agents; // Claude Code, Codex, OpenCode, Gemini CLI
#[cfg(unix)]
mod artefact; // the static build
#[cfg(unix)]
mod auth_token; // auth token, for Databricks' SDKs
#[cfg(unix)]
mod browsers; // Chromium, other users at the callback, WSL
mod cache; // entries that are damaged, foreign or from the future; folders that cannot be written
#[cfg(unix)]
mod certificates; // files of certificates, and what is wrong with them
#[cfg(unix)]
mod cli; // help, mistakes, the command lines of documents
#[cfg(unix)]
mod cli_logins; // many runs of the Databricks CLI at once, runs that hang
#[cfg(unix)]
mod completions; // bash, zsh, fish; the manual page
#[cfg(unix)]
mod consumers; // the folders of integrations/
#[cfg(unix)]
mod demonstration; // cargo run --example sandbox
#[cfg(unix)]
mod differential; // the official SDKs in thousands of environments
#[cfg(unix)]
mod doctor; // each step, up to a login
#[cfg(unix)]
mod doctor_answers; // what a Postgres server's refusals lead to
#[cfg(unix)]
mod drivers; // ten drivers and pools that ask for each connection
mod exec; // what the child program sees, exit codes
#[cfg(unix)]
mod faults; // network, answers, disk, clock, processes, secrets: many times
mod formats; // each format's bytes, and the shells that read them
mod freshness; // the table of cache/policy.rs, by moving the clock
mod http; // redirects, sizes, deadlines, retries, proxies, trust
mod identities; // federation, Azure, the metadata service
#[cfg(unix)]
mod ini; // .databrickscfg beside go-ini
#[cfg(all(unix, debug_assertions))]
mod interleavings; // every order of the steps of two calls
mod judges; // requests that the stand-in workspace does not let pass
#[cfg(unix)]
mod launchd; // services with a stand-in for launchctl
mod leaks; // pieces of secrets in texts
#[cfg(unix)]
mod limits; // ulimit, file systems that lack something
mod login; // by a browser or a pasted address, for a workspace or a profile
mod mint; // both credential APIs
#[cfg(unix)]
mod official_sdk; // the official SDKs against the stand-in workspace
#[cfg(unix)]
mod packages; // what a release consists of
#[cfg(unix)]
mod password_file_readers; // psql, asyncpg, node-postgres and pgjdbc while the password changes
mod pat_login; // login --pat: the pasted token, and the rotating ones
#[cfg(unix)]
mod pooled; // an endpoint's PgBouncer, with and without tokens
#[cfg(unix)]
mod postgres; // a real psql at a real server
mod process; // many callers at once, pipes, full disks
mod providers; // pat, oauth-m2m, databricks-cli, the order of auth types
#[cfg(unix)]
mod proxies; // NO_PROXY beside Go's reading of it
mod refusals; // the server's words decide the hint
#[cfg(unix)]
mod renewals; // killed and interrupted
#[cfg(unix)]
mod report; // doctor --report
#[cfg(unix)]
mod requests; // what each auth type requests, and what the official SDKs request
mod resolve; // host, endpoint, instance, project, role
#[cfg(unix)]
mod rights; // --read-only and --scopes
mod secrecy; // no secret where it must not be
#[cfg(unix)]
mod secret_destinations; // which hosts may get a secret
#[cfg(unix)]
mod service; // systemd, launchd, cron
mod settings; // the rules of unified authentication, and bad input
#[cfg(all(unix, debug_assertions))]
mod soak; // a month by moved clocks
#[cfg(unix)]
mod sslmode; // what a Postgres server must prove, with real clients
mod status; // what would be used
#[cfg(unix)]
mod targets; // a profile of .databrickscfg, a Databricks secret
#[cfg(unix)]
mod tidy; // the repository itself
mod values; // values as people paste them
#[cfg(unix)]
mod wait; // a database that is not ready yet
mod watch; // until a signal comes
#[cfg(windows)]
mod windows; // where Windows differs from Unix
#[cfg(unix)]
mod wine; // psql.exe, a console and a certificate store under Wine
mod write; // .pgpass and files: bytes, many writers, kills, a year
