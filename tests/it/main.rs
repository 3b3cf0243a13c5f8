//! All tests that need more than one module, in one binary.
//!
//! Most call the program as a function (`support::Test`) in a context of their own: a list for the
//! environment, a clock that the test moves, a stand-in workspace on loopback. A test starts the
//! executable only if it is about processes: locks, exec, pipes, signals, real consumers.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod machine;
mod support;

mod agents; // Claude Code, Codex, OpenCode, Gemini CLI
mod artefact; // the static build
mod cache; // entries that are damaged, foreign or from the future; folders that cannot be written
mod certificates; // files of certificates, and what is wrong with them
mod cli; // help, mistakes, the command lines of documents
mod cli_logins; // many runs of the Databricks CLI at once, runs that hang
mod clients; // psql, asyncpg, node-postgres and pgjdbc while the password changes
mod completions; // bash, zsh, fish; the manual page
mod consumers; // the folders of integrations/
mod demonstration; // cargo run --example sandbox
mod differential; // the official SDKs in thousands of environments
mod doctor; // each step, up to a login
mod doctor_answers; // what a Postgres server's refusals lead to
mod drivers; // ten drivers and pools that ask for each connection
mod exec; // what the child program sees, exit codes
mod faults; // network, answers, disk, clock, processes, secrets: many times
mod formats; // each format's bytes, and the shells that read them
mod freshness; // the table of cache/policy.rs, by moving the clock
mod http; // redirects, sizes, deadlines, retries, proxies, trust
mod identities; // federation, Azure, the metadata service
mod ini; // .databrickscfg beside go-ini
mod limits; // ulimit, file systems that lack something
mod login; // browser logins: renewed, ended
mod mint; // both credential APIs
mod official; // the official SDKs judge the stand-in workspace
mod packages; // what a release consists of
mod pat_login; // login --pat: the pasted token, and the rotating ones
mod plugin; // auth token, for Databricks' SDKs
mod pooled; // an endpoint's PgBouncer, with and without tokens
mod postgres; // a real psql at a real server
mod process; // many callers at once, pipes, full disks
mod providers; // pat, oauth-m2m, databricks-cli, the order of auth types
mod proxies; // NO_PROXY beside Go's reading of it
mod refusals; // the server's words decide the hint
mod report; // doctor --report
mod requests; // what each auth type requests, and what the official SDKs request
mod resolve; // host, endpoint, instance, project, role
mod rights; // --read-only and --scopes
mod secrecy; // no secret where it must not be
mod service; // systemd, launchd, cron
mod settings; // the rules of unified authentication, and bad input
mod sslmode; // what a Postgres server must prove, with real clients
mod status; // what would be used
mod targets; // a profile of .databrickscfg, a Databricks secret
mod tidy; // the repository itself
mod trust; // which hosts may get a secret
mod values; // values as people paste them
mod wait; // a database that is not ready yet
mod watch; // until a signal comes
mod write; // .pgpass and files: bytes, many writers, kills, a year
