//! All tests that need more than one module, in one binary.
//!
//! Most call the program as a function (`support::Test`) with surroundings of their own: a list
//! for the environment, a clock moved by hand, a stand-in workspace on loopback. The executable
//! is started only where a process matters: locks, exec, pipes, signals, real consumers.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod machine;
mod support;

mod agents; // Claude Code, Codex, OpenCode, Gemini CLI
mod artefact; // the static executable
mod cache; // entries damaged, foreign, from the future; no place to write
mod cli; // help, mistakes, documentation's command lines
mod clients; // psql, asyncpg, node-postgres, pgjdbc, while the password changes
mod completions; // bash, zsh, fish; the manual page
mod consumers; // the folders of integrations/
mod differential; // the official SDKs in thousands of surroundings
mod doctor; // every link, up to a login
mod drivers; // ten drivers and pools, asking each time
mod exec; // what the child sees, exit codes
mod faults; // network, answers, disk, clock, processes, secrets: many times over
mod find; // host, endpoint, instance, project, role
mod formats; // each format's bytes, and the shells that read them
mod freshness; // the table of freshness.rs, by moving the clock
mod http; // redirects, sizes, deadlines, retries, proxies, trust
mod identities; // federation, Azure, a metadata service: what surrounds us says who we are
mod login; // a person's login by browser, renewed and ended
mod mint; // both credential APIs
mod official; // the official SDK judges the stand-in
mod packages; // what a release consists of
mod pasted; // a person's pasted token, and those that replace themselves
mod postgres; // a real psql at a real server
mod process; // herds, pipes, full disks
mod providers; // pat, oauth-m2m, databricks-cli, the chain
mod requests; // what each source asks, and what the official SDKs ask
mod secrecy; // no secret anywhere it should not be
mod service; // systemd, launchd, cron
mod settings; // unified authentication's rules, and bad input
mod status; // what would be used
mod targets; // a profile of .databrickscfg, a Databricks secret
mod tidy; // the repository itself
mod trust; // where a secret may go
mod watch; // until a signal comes
mod write; // .pgpass and files: bytes, crowds, kills, a year
