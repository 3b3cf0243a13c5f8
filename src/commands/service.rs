//! `service`: a target that the system's own timer keeps up to date.
//!
//! The subcommands are the rows of [`ACTIONS`]. What a service is made of is left to
//! `service/manage.rs`.

use std::ffi::{OsStr, OsString};

use crate::commands::command::{Call, Command, DATABASE_FLAGS, ROW, Subcommand, flag_words};
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::time::show_duration;
use crate::quoting::sh_word;
use crate::service::manage::Service;
use crate::service::manager::Manager;
use crate::suggest::nearest;
use crate::targets::table;
use crate::targets::update::Update;

pub const COMMAND: Command = Command {
    name: "service",
    about: "have systemd or launchd keep one of these targets up to date",
    usage: "ACTION TARGET [FLAGS]",
    more: "The service is a timer of your own user: systemd user units, or a launchd agent. \
           install records all settings that are in effect now, so the service does not depend on the \
           environment of your shell. If its first run fails, the installation is undone. The \
           other actions take only the flags that name the target, --name and --verbose; \
           uninstall also takes --purge.\n\n\
           A service is named lakebase-token-pgpass, or lakebase-token- and its file, profile or secret. A \
           second service of the same name needs --name. With systemd, a service runs in a \
           sandbox: a --then command may write only to the target's folder, the cache and the \
           folders of the Databricks and Azure CLIs.",
    flags: &[Id::Interval, Id::Then, Id::Name, Id::Linger, Id::Purge],
    takes_target: true,
    completions: || names().chain(table::names()).collect(),
    subcommands: &ACTIONS,
    common: DATABASE_FLAGS,
    max_words: 3,
    exit_codes: "exit codes: 0 done, or the service works; otherwise as for write.\n\
            status: 1 not scheduled, or no valid credential in the target; 2 not installed;\n\
            otherwise the exit code of the last run",
    run,
    ..ROW
};

static ACTIONS: [Subcommand; 4] = [
    Subcommand {
        name: "install",
        about: "write the timer and the settings, and run the service once",
        takes: |id| id != Id::Purge,
        run: install,
    },
    Subcommand {
        name: "uninstall",
        about: "remove the service; with --purge also what it wrote and cached",
        takes: |id| id == Id::Purge || names_service(id),
        run: uninstall,
    },
    Subcommand {
        name: "status",
        about: "show the timer, the last run and the expiry of the credential",
        takes: names_service,
        run: status,
    },
    Subcommand {
        name: "restart",
        about: "run the service now and schedule it again",
        takes: names_service,
        run: restart,
    },
];

/// The flags that say which service is meant, and `--verbose`.
fn names_service(id: Id) -> bool {
    [Id::Name, Id::PgPassFile, Id::To, Id::Scope, Id::Key, Id::Verbose].contains(&id)
}

fn names() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|action| action.name)
}

fn run(call: Call<'_>) -> Result<u8> {
    let [name, target @ ..] = call.words else {
        return Err(Error::usage("missing service action").hint(all_actions()));
    };
    let name = name.to_string_lossy();
    let Some(action) = ACTIONS.iter().find(|action| action.name == name) else {
        return Err(unknown_action(&name, target, call.flags));
    };

    if cfg!(windows) {
        return Err(Error::usage("lakebase-token installs no services on Windows yet")
            .because("the Task Scheduler can run `lakebase-token write` every ten minutes")
            .hint(
                "schtasks /Create /SC MINUTE /MO 10 /TN lakebase-token \
                 /TR \"lakebase-token write pgpass --interval 10m\"",
            ));
    }

    // A setting that the action would ignore is a mistake of the caller.
    for (id, _) in call.flags {
        if !(action.takes)(*id) {
            let flag = SETTINGS[*id as usize].flag;
            return Err(Error::usage(format!("service {name} has no flag --{flag}"))
                .hint(format!("lakebase-token service {name} --help")));
        }
    }
    (action.run)(call, target)
}

fn unknown_action(name: &str, words: &[OsString], flags: &[(Id, String)]) -> Error {
    let error = Error::usage(format!("unknown service action: {}", redact(name)));
    let is_target = table::names().any(|known| known == name);
    if let (true, Some(second)) = (is_target, words.first()) {
        let second = redact(&second.to_string_lossy());
        return error.hint(format!("lakebase-token service {second} {name}"));
    }
    // What systemctl calls it.
    let near = match name {
        "stop" | "disable" | "remove" => Some("uninstall"),
        "enable" => Some("install"),
        _ => nearest(name, names()),
    };
    match near {
        Some(near) => {
            let words = words.iter().map(|word| sh_word(&redact(&word.to_string_lossy())));
            let line: Vec<String> = [near.to_owned()].into_iter().chain(words).collect();
            let flags = flag_words(flags);
            error.hint(format!("lakebase-token service {}{flags}", line.join(" ")))
        }
        None => error.hint(all_actions()),
    }
}

fn all_actions() -> String {
    let others: Vec<&str> = names().skip(1).collect();
    let first = names().next().unwrap_or_default();
    format!("lakebase-token service {first} pgpass  # or {}", others.join(", "))
}

fn install(mut call: Call<'_>, words: &[OsString]) -> Result<u8> {
    let flags = call.flags_with_interval();
    let settings = Settings::resolve(&flags, call.context)?;
    let mut target = table::named(&os_strs(words), &settings, call.context)?;
    target.explicit = true;
    let service = Service::new(target, &settings, Manager::CURRENT, call.context)?;

    let linger = settings.is_on(Id::Linger);
    let update = Update::new(settings, words, call.context)?;
    let job = service.job(&update, &flags)?;
    let outcome = service.install(&job, linger)?;
    if let Some(words) = service.linger_note() {
        call.context.note(words);
    }

    let interval = show_duration(job.interval);
    call.print_lines(&format!("{outcome} {}: {}, every {interval}\n", service.name(), job.target))?;
    Ok(0)
}

fn uninstall(mut call: Call<'_>, words: &[OsString]) -> Result<u8> {
    let purge = call.has_flag(Id::Purge);
    let service = installed(&call, words)?;
    let was_installed = service.uninstall(purge)?;

    let name = service.name();
    let line = if !was_installed {
        format!("unchanged: {name} is not installed\n")
    } else if purge {
        format!("uninstalled {name}\n")
    } else {
        format!("uninstalled {name}; what it wrote stays (--purge removes it)\n")
    };
    call.print_lines(&line)?;
    Ok(0)
}

fn status(mut call: Call<'_>, words: &[OsString]) -> Result<u8> {
    let report = installed(&call, words)?.status()?;
    let lines = report.lines.iter().map(|(name, text)| format!("{name:<12}{text}\n"));
    call.print_lines(&lines.collect::<String>())?;
    Ok(report.code)
}

fn restart(mut call: Call<'_>, words: &[OsString]) -> Result<u8> {
    let service = installed(&call, words)?;
    service.restart()?;
    call.print(&format!("restarted {}\n", service.name()))?;
    Ok(0)
}

/// The service of this target. It uses the settings that were recorded when it was installed, so a
/// setting that cannot be resolved now is no error.
fn installed<'a>(call: &Call<'a>, words: &[OsString]) -> Result<Service<'a>> {
    let (settings, _) = Settings::resolve_partially(call.flags, call.context);
    let target = table::named(&os_strs(words), &settings, call.context)?;
    Service::new(target, &settings, Manager::CURRENT, call.context)
}

fn os_strs(words: &[OsString]) -> Vec<&OsStr> {
    words.iter().map(OsString::as_os_str).collect()
}
