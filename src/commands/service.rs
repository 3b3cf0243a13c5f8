//! `service`: a place that the system's own timer keeps up to date.

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::config::resolve::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::time::show_duration;
use crate::service::manage::{ACTIONS, Service};
use crate::service::manager::Manager;
use crate::suggest::nearest;
use crate::targets::table;
use crate::targets::update::{DEFAULT_INTERVAL, Update};

pub const COMMAND: Command = Command {
    name: "service",
    about: "have systemd or launchd keep one of those places up to date",
    usage: "install|uninstall|status|restart PLACE [FLAGS]",
    more: "install writes a timer of your own (systemd user units, a launchd agent) and all settings \
           that were found, runs it once and takes it back if that fails. status says how it \
           fares, restart runs it now, uninstall takes it away, with --purge also what it wrote and \
           cached; all but install take only the flags that name the place, and --name.\n\n\
           A service is called lakebase-token-pgpass, or after its file's, profile's or secret's \
           name; a second one of that name needs a --name. It runs in a sandbox: a command of \
           --then may write to the place's folder, our cache and the CLIs' folders only.",
    flags: &[Id::Interval, Id::Then, Id::Name, Id::Linger, Id::Purge],
    takes_target: true,
    words: || ACTIONS.into_iter().chain(table::names()).collect(),
    common: COMMON,
    max_words: 3,
    codes: "exit codes: 0 done, or all is well; else as for write. status: 1 it does not run, or the\n\
            file has no living credential; 2 not installed; otherwise the last run's own code",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let [action, place @ ..] = call.words else {
        return Err(Error::usage("what about the service?").hint(actions()));
    };
    let action = action.to_string_lossy();
    if !ACTIONS.contains(&&*action) {
        let error = Error::usage(format!("a service cannot be told to {}", redact(&action)));
        if let (true, Some(second)) = (is_place(&action), place.first()) {
            let second = redact(&second.to_string_lossy());
            return Err(error.hint(format!("lakebase-token service {second} {action}")));
        }
        return Err(match nearest(&action, ACTIONS.into_iter()) {
            Some(near) => error.hint(format!("lakebase-token service {near}")),
            None => error.hint(actions()),
        });
    }
    check_flags(&action, call.flags)?;
    let (mut flags, install) = (call.flags.to_vec(), action == "install");
    if install && !flags.iter().any(|(id, _)| *id == Id::Interval) {
        flags.push((Id::Interval, DEFAULT_INTERVAL.to_owned()));
    }
    let settings = match install {
        true => Settings::resolve(&flags, call.context)?,
        // The others go by what was installed, whatever is configured here and now.
        false => Settings::resolve_what_can_be(&flags, call.context).0,
    };
    let place: Vec<_> = place.iter().map(|word| word.as_os_str()).collect();
    let mut target = table::named(&place, &settings, call.context)?;
    target.explicit |= install;
    let service = Service::new(target, settings.text(Id::Name), Manager::OURS, call.context)?;
    let name = service.name();
    let line = match &*action {
        "install" => install_service(&call, &service, settings, &flags)?,
        "uninstall" => match service.uninstall(settings.is_on(Id::Purge))? {
            true if settings.is_on(Id::Purge) => format!("uninstalled {name}\n"),
            true => format!("uninstalled {name}; what it wrote stays, but for --purge\n"),
            false => format!("unchanged: {name} is not installed\n"),
        },
        "restart" => service.restart().map(|()| format!("restarted {name}\n"))?,
        _ => {
            let report = service.status()?;
            let lines = report.lines.iter().map(|(what, words)| format!("{what:<12}{words}\n"));
            call.print(&lines.collect::<String>())?;
            return Ok(report.code);
        }
    };
    call.print(&line)?;
    Ok(0)
}

fn install_service(
    call: &Call<'_>,
    service: &Service<'_>,
    settings: Settings,
    flags: &[(Id, String)],
) -> Result<String> {
    let linger = settings.is_on(Id::Linger);
    let update = Update::new(settings, &call.words[1..], call.context)?;
    let job = service.job(&update, flags)?;
    let done = service.install(&job, linger)?;
    if let Some(words) = service.linger_note() {
        call.context.note(words);
    }
    let (name, place) = (service.name(), &job.place);
    Ok(format!("{done} {name}: {place}, every {}\n", show_duration(job.interval)))
}

/// What is said to an action that does not hear it would be a mistake.
fn check_flags(action: &str, flags: &[(Id, String)]) -> Result<()> {
    let hears = |id: Id| match id {
        Id::Purge => action == "uninstall",
        Id::Name | Id::PgPassFile | Id::To | Id::Scope | Id::Key | Id::Verbose => true,
        _ => action == "install",
    };
    match flags.iter().find(|(id, _)| !hears(*id)) {
        None => Ok(()),
        Some((id, _)) => {
            let flag = SETTINGS[*id as usize].flag;
            Err(Error::usage(format!("service {action} has no use for --{flag}"))
                .hint("lakebase-token service --help"))
        }
    }
}

fn is_place(word: &str) -> bool {
    table::TARGETS.iter().any(|row| row.name == word)
}

fn actions() -> String {
    format!("lakebase-token service {} pgpass", ACTIONS.join("|"))
}
