//! `completions`: what a shell needs to complete our command line, from the tables of verbs, flags,
//! places, formats and auth types.
//!
//! Each script is one function over the words typed so far: behind a flag its values, behind a dash
//! the verb's flags, behind `--` somebody else's command, otherwise the verb's words. Values that
//! only a workspace or a file knows are not asked for: pressing Tab must not hold anybody up.

use super::{Call, VERBS, Verb};
use crate::error::{Error, Result, clean, nearest};
use crate::format::FORMATS;
use crate::service::ACTIONS;
use crate::settings::{Id, SETTINGS, Setting, ValueKind};
use crate::sink::SINKS;
use crate::source;

pub const VERB: Verb = Verb {
    name: "completions",
    about: "print what a shell needs to complete command lines",
    usage: "bash|zsh|fish|powershell",
    more: "bash: put `eval \"$(lakebase-token completions bash)\"` into ~/.bashrc. zsh: the same, after \
           compinit. fish: write it to ~/.config/fish/completions/lakebase-token.fish. PowerShell: \
           put `lakebase-token completions powershell | Out-String | Invoke-Expression` into $PROFILE.",
    flags: &[],
    place: false,
    common: &[],
    words: 1,
    command: false,
    codes: "exit codes: 0 printed, 2 no such shell",
    failure: None,
    run,
};

/// A shell.
struct Shell {
    name: &'static str,
    script: fn() -> String,
}

const SHELLS: [Shell; 4] = [
    Shell { name: "bash", script: bash },
    Shell { name: "zsh", script: zsh },
    Shell { name: "fish", script: fish },
    Shell { name: "powershell", script: powershell },
];

fn run(mut call: Call<'_>) -> Result<u8> {
    let names = || SHELLS.iter().map(|shell| shell.name);
    let word = call.words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let Some(shell) = SHELLS.iter().find(|shell| shell.name == word) else {
        let words = match &*word {
            "" => "completions for which shell?".to_owned(),
            other => format!("there are no completions for {}", clean(other)),
        };
        let hint = nearest(&word, names()).map_or(VERB.usage.to_owned(), str::to_owned);
        return Err(Error::usage(words).hint(format!("lakebase-token completions {hint}")));
    };
    call.print(&(shell.script)())?;
    Ok(0)
}

/// Verbs that are for people.
fn verbs() -> impl Iterator<Item = &'static Verb> {
    VERBS.iter().filter(|verb| !verb.about.is_empty())
}

/// A verb's flags.
fn flags(verb: &'static Verb) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| !row.flag.is_empty() && verb.takes(row.id))
}

/// What may stand behind a flag.
enum Values {
    /// Nothing: it is a switch.
    None,
    /// The path of a file.
    File,
    /// One of these.
    These(Vec<&'static str>),
    /// Something that cannot be known here.
    Any,
}

fn values(row: &Setting) -> Values {
    match (row.id, row.kind) {
        (_, ValueKind::Switch) => Values::None,
        (Id::Format, _) => Values::These(FORMATS.iter().map(|format| format.name).collect()),
        (Id::For, _) => Values::These(vec!["database", "workspace"]),
        (Id::AuthType, _) => Values::These(source::supported()),
        _ if row.value.starts_with("PATH") => Values::File,
        _ => Values::Any,
    }
}

/// What may stand behind a verb.
fn words(verb: &Verb) -> Vec<&'static str> {
    let places = || SINKS.iter().map(|sink| sink.name);
    match verb.name {
        "service" => ACTIONS.into_iter().chain(places()).collect(),
        "completions" => SHELLS.iter().map(|shell| shell.name).collect(),
        _ if verb.place => places().collect(),
        _ => Vec::new(),
    }
}

/// `name) reply… ;;` for each row of a `case`, in sh's notation.
fn cases(indent: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    rows.map(|(pattern, body)| format!("{indent}{pattern}) {body} ;;\n")).collect()
}

/// How a flag is typed: `--format`, and `-f` where there is one.
fn typed(row: &Setting, between: &str) -> String {
    let short = row.short.map_or(String::new(), |short| format!("{between}-{short}"));
    format!("--{}{short}", row.flag)
}

/// The flags that take values, and what completes those, in sh's notation.
fn value_cases(indent: &str, file: &str, these: fn(&str) -> String) -> String {
    let rows = SETTINGS.iter().filter(|row| !row.flag.is_empty());
    let rows = rows.filter_map(|row| {
        let body = match values(row) {
            Values::None => return None,
            Values::File => file.to_owned(),
            Values::These(names) => these(&names.join(" ")),
            Values::Any => "return".to_owned(),
        };
        Some((typed(row, "|"), body))
    });
    cases(indent, rows)
}

fn names() -> String {
    verbs().map(|verb| verb.name).collect::<Vec<_>>().join(" ")
}

fn flags_of(verb: &'static Verb) -> String {
    let own = flags(verb).map(|row| typed(row, " "));
    let all: Vec<String> = own.chain(["--help -h --version -V".to_owned()]).collect();
    all.join(" ")
}

fn bash() -> String {
    let verbs_and_flags = cases(
        "        ",
        verbs().map(|verb| {
            (verb.name.to_owned(), {
                let words = words(verb).join(" ");
                format!("flags='{}' words='{words}'", flags_of(verb))
            })
        }),
    );
    let values = value_cases("        ", "compopt -o default; return", |names| {
        format!("mapfile -t COMPREPLY < <(compgen -W '{names}' -- \"$word\"); return")
    });
    format!(
        "# bash completion for lakebase-token\n\
         _lakebase_token() {{\n\
         \x20   local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}\n\
         \x20   local verb='' flags words i verbs='{names}'\n\
         \x20   COMPREPLY=()\n\
         \x20   for ((i = 1; i < COMP_CWORD; i++)); do\n\
         \x20       if [ \"${{COMP_WORDS[i]}}\" = -- ]; then compopt -o default; return; fi\n\
         \x20       case \" $verbs \" in *\" ${{COMP_WORDS[i]}} \"*) verb=${{verb:-${{COMP_WORDS[i]}}}} ;; esac\n\
         \x20   done\n\
         \x20   case $before in\n{values}\x20   esac\n\
         \x20   case ${{verb:-get}} in\n{verbs_and_flags}\x20   esac\n\
         \x20   case $word in\n\
         \x20       -*) ;;\n\
         \x20       *) flags=$words; if [ -z \"$verb\" ]; then flags=$verbs; else compopt -o default; fi ;;\n\
         \x20   esac\n\
         \x20   mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n\
         }}\n\
         complete -F _lakebase_token lakebase-token\n",
        names = names(),
    )
}

/// A word in sh's notation.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh() -> String {
    let described = |verb: &'static Verb| -> String {
        let shown = flags(verb).flat_map(|row| {
            let about = row.about.replace(':', "\\:");
            let short = row.short.map(|short| quoted(&format!("-{short}:{about}")));
            [Some(quoted(&format!("--{}:{about}", row.flag))), short]
        });
        let shown: Vec<String> = shown.flatten().chain(["'--help:this text'".to_owned()]).collect();
        shown.join(" ")
    };
    let verb_names: Vec<String> =
        verbs().map(|verb| quoted(&format!("{}:{}", verb.name, verb.about))).collect();
    let rows = cases(
        "        ",
        verbs().map(|verb| {
            (verb.name.to_owned(), {
                format!("flags=({}) words_=({})", described(verb), words(verb).join(" "))
            })
        }),
    );
    let values =
        value_cases("        ", "_files; return", |names| format!("compadd -- {names}; return"));
    format!(
        // The name of the function is the name that a file of it has by custom in $fpath.
        "#compdef lakebase-token\n\
         # zsh completion for lakebase-token\n\
         _lakebase-token() {{\n\
         \x20   local verb i\n\
         \x20   local -a flags words_ verbs_=({verb_names})\n\
         \x20   for ((i = 2; i < CURRENT; i++)); do\n\
         \x20       if [[ ${{words[i]}} == -- ]]; then\n\
         \x20           shift $i words\n\
         \x20           ((CURRENT -= i))\n\
         \x20           _normal\n\
         \x20           return\n\
         \x20       fi\n\
         \x20       [[ \" {names} \" == *\" ${{words[i]}} \"* ]] && verb=${{verb:-${{words[i]}}}}\n\
         \x20   done\n\
         \x20   case ${{words[CURRENT-1]}} in\n{values}\x20   esac\n\
         \x20   case ${{verb:-get}} in\n{rows}\x20   esac\n\
         \x20   if [[ $PREFIX == -* ]]; then _describe flag flags\n\
         \x20   elif [[ -z $verb ]]; then _describe verb verbs_\n\
         \x20   elif (( ${{#words_}} )); then compadd -- $words_; _files\n\
         \x20   fi\n\
         }}\n\
         if [ \"$funcstack[1]\" = _lakebase-token ]; then _lakebase-token \"$@\"; else compdef _lakebase-token lakebase-token; fi\n",
        verb_names = verb_names.join(" "),
        names = names(),
    )
}

fn fish() -> String {
    let mut text = String::from(
        "# fish completion for lakebase-token\n\
         complete -c lakebase-token -f\n\
         function __lakebase_token_before_command\n\
         \x20   not contains -- -- (commandline -opc)\n\
         end\n",
    );
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let before = "__lakebase_token_before_command";
    for verb in verbs() {
        text.push_str(&format!(
            "complete -c lakebase-token -n '{before}; and not __fish_seen_subcommand_from {}' -a {} -d {}\n",
            names(),
            verb.name,
            quoted(verb.about)
        ));
    }
    for verb in verbs() {
        let seen = match verb.name {
            // Without a verb it is meant.
            "get" => {
                let others = verbs().filter(|other| other.name != "get");
                let others: Vec<&str> = others.map(|other| other.name).collect();
                format!("not __fish_seen_subcommand_from {}", others.join(" "))
            }
            name => format!("__fish_seen_subcommand_from {name}"),
        };
        let start = format!("complete -c lakebase-token -n '{before}; and {seen}'");
        if !words(verb).is_empty() {
            text.push_str(&format!("{start} -F -a {}\n", quoted(&words(verb).join(" "))));
        }
        for row in flags(verb) {
            let short = row.short.map_or(String::new(), |short| format!(" -s {short}"));
            let value = match values(row) {
                Values::None => String::new(),
                Values::File => " -r -F".to_owned(),
                Values::These(names) => format!(" -x -a {}", quoted(&names.join(" "))),
                Values::Any => " -x".to_owned(),
            };
            let about = quoted(row.about);
            text.push_str(&format!("{start} -l {}{short}{value} -d {about}\n", row.flag));
        }
    }
    text
}

fn powershell() -> String {
    let list = |names: &[&str]| {
        names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
    };
    let rows: String = verbs()
        .map(|verb| {
            let flags: Vec<String> = flags(verb).map(|row| format!("--{}", row.flag)).collect();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            format!("        '{}' = @({}), @({})\n", verb.name, list(&flags), list(&words(verb)))
        })
        .collect();
    let known = SETTINGS.iter().filter(|row| !row.flag.is_empty());
    let values: String = known
        .filter_map(|row| match values(row) {
            Values::These(names) => {
                Some(format!("        '--{}' = @({})\n", row.flag, list(&names)))
            }
            _ => None,
        })
        .collect();
    format!(
        "# PowerShell completion for lakebase-token\n\
         Register-ArgumentCompleter -Native -CommandName lakebase-token -ScriptBlock {{\n\
         \x20   param($word, $line, $cursor)\n\
         \x20   $verbs = [ordered]@{{\n{rows}\x20   }}\n\
         \x20   $values = @{{\n{values}\x20   }}\n\
         \x20   $typed = @($line.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ $_.ToString() }})\n\
         \x20   if ($word) {{ $typed = @($typed | Select-Object -SkipLast 1) }}\n\
         \x20   if ($typed -contains '--') {{ return }}\n\
         \x20   $verb = @($typed | Where-Object {{ $verbs.Contains($_) }})[0]\n\
         \x20   $before = if ($typed) {{ $typed[-1] }}\n\
         \x20   $all = if ($before -and $values.ContainsKey($before)) {{ $values[$before] }}\n\
         \x20       elseif ($word -like '-*') {{ $verbs[$(if ($verb) {{ $verb }} else {{ 'get' }})][0] }}\n\
         \x20       elseif ($verb) {{ $verbs[$verb][1] }}\n\
         \x20       else {{ $verbs.Keys }}\n\
         \x20   $all | Where-Object {{ $_ -like \"$word*\" }}\n\
         }}\n"
    )
}
