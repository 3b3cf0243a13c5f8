//! The known differences between this program and the official SDKs: the reason of each, which verdicts it
//! explains, and the change of settings after which both decide the same.

use super::{CONFIGURED, CONFLICT, Case, Cli, Refusal, Verdict, refusal};

/// A known difference: in which environments, with which verdict of ours, and which of theirs.
pub struct Difference {
    pub why: &'static str,
    pub of: Of,
    pub explains: fn(&Case, &Verdict, &Verdict) -> bool,
    /// A change of settings after which this program decides as the SDK did.
    pub as_if: fn(&mut Case, &Verdict, &mut Verdict),
}

/// Whose difference it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Of {
    /// Of both SDKs, or of the one for Go.
    Both,
    /// The same, and only in the order of auth types: both read the same settings.
    Order,
    /// The same, and in the settings that they read, on which they decide as we would.
    Reading,
    /// Of the SDK for Python; that for Go may differ in another way.
    Python,
    /// The same in the settings that it reads, where that for Go reads the same as we do. So it cannot hide a
    /// fault of ours.
    PythonReading,
    /// Of the SDK for Python, which stops at what its parser makes of the file.
    PythonFile,
}

impl Difference {
    pub fn is_of(&self, judge: &str) -> bool {
        judge == "Python" || !matches!(self.of, Of::Python | Of::PythonReading | Of::PythonFile)
    }

    pub fn is_in_reading(&self) -> bool {
        matches!(self.of, Of::Reading | Of::PythonReading | Of::PythonFile)
    }
}

pub static DIFFERENCES: &[Difference] = &[
    Difference {
        why: "a configured auth type comes before the login of the Databricks CLI",
        of: Of::Order,
        explains: |_, ours, theirs| {
            theirs.auth_type == "databricks-cli" && CONFIGURED.contains(&&*ours.auth_type)
        },
        as_if: named,
    },
    Difference {
        why: "an Azure resource id means the Azure CLI, not the Databricks CLI",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let named = has(case, "DATABRICKS_AZURE_RESOURCE_ID") || ours.host.is_empty();
            theirs.auth_type == "databricks-cli" && ours.auth_type == "azure-cli" && named
        },
        as_if: named,
    },
    Difference {
        why: "the Databricks CLI comes before the Azure CLI only if a profile shows its login",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let host = ours.host.trim_start_matches("https://");
            let shows =
                |section: &str| section.contains("databricks-cli") && section.contains(host);
            let shown = case.file.iter().any(|text| text.split("\n[").any(shows));
            theirs.auth_type == "databricks-cli" && ours.auth_type == "azure-cli" && !shown
        },
        as_if: named,
    },
    Difference {
        why: "a configured Azure identity takes precedence over a job's own",
        of: Of::Order,
        explains: |case, ours, theirs| {
            let azure = ["ARM_CLIENT_ID", "ARM_USE_MSI"].iter().any(|name| has(case, name));
            let job = ["github-oidc", "azure-devops-oidc"].contains(&&*theirs.auth_type);
            let file = case.file.as_ref().is_some_and(|text| text.contains("azure_"));
            job && (azure || file) && CONFIGURED.contains(&&*ours.auth_type)
        },
        as_if: named,
    },
    Difference {
        why: "the failure of a configured auth type is final; the SDKs go on to the next",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let told = [
                "identity token",
                "error: the token ",
                "cannot act as the group",
                "is not on this machine",
            ];
            theirs.error.is_empty() && told.iter().any(|words| ours.error.contains(words))
        },
        as_if: |case, ours, theirs| {
            let cause: &[&str] = match &*ours.auth_type {
                // Go's SDK also passes over a token, which cannot act as a group.
                _ if ours.error.contains("pat cannot act as") && theirs.auth_type != "pat" => {
                    &["DATABRICKS_TOKEN"]
                }
                _ if ours.error.contains("cannot act as the group") => &["DATABRICKS_GROUP_ID"],
                "github-oidc" | "github-oidc-azure" => &["ACTIONS_"],
                "azure-devops-oidc" => &["SYSTEM_"],
                "metadata-service" => &["DATABRICKS_METADATA_SERVICE_URL"],
                _ => &["DATABRICKS_OIDC_TOKEN"],
            };
            case.drop(cause);
        },
    },
    Difference {
        why: "an auth type that is not supported (basic, Google) is an error; the SDKs use it",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let refusal = format!("does not support the auth type {}", theirs.auth_type);
            theirs.error.is_empty() && ours.error.contains(&refusal)
        },
        as_if: |_, ours, theirs| theirs.error.clone_from(&ours.error),
    },
    Difference {
        why: "an auth type that is not supported (basic, Google) is an error; the SDKs go on to the next",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let is_refused = ours.error.contains("does not support the auth type");
            is_refused && theirs.error.is_empty()
        },
        as_if: |case, _, _| {
            case.drop(&["DATABRICKS_USERNAME", "DATABRICKS_GOOGLE_", "GOOGLE_"]);
        },
    },
    Difference {
        why: "a value over several lines is refused, since the SDKs do not agree on it",
        of: Of::Reading,
        explains: |case, ours, _| {
            let odd = ["\"\"\"", "`", "\\"];
            let file =
                case.file.as_ref().is_some_and(|text| odd.iter().any(|odd| text.contains(odd)));
            file && ours.error.starts_with("cannot read")
        },
        as_if: unchanged,
    },
    Difference {
        why: "the id of an account or workspace is an error if it cannot be one; the SDKs take any text",
        of: Of::Both,
        explains: |_, ours, _| {
            ours.error.contains("_id from ") && ours.error.contains(" is not an id: ")
        },
        as_if: |case, ours, theirs| {
            if ours.error.starts_with("account_id") {
                case.drop(&["DATABRICKS_ACCOUNT_ID"]);
            } else {
                case.drop(&["DATABRICKS_WORKSPACE_ID"]);
                theirs.workspace_id.clear();
            }
        },
    },
    Difference {
        why: "a control character inside a secret is an error; the SDKs send it",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let is_sent = theirs.values.contains(char::is_control);
            is_sent && ours.error.contains("has a control character inside")
        },
        as_if: unchanged,
    },
    Difference {
        why: "a profile's secret or login is for that profile's host only",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let told = [" is for another host than ", ", but the workspace is "];
            let told = told.iter().any(|words| ours.error.contains(words));
            let others = theirs.error.is_empty() || theirs.error.contains(CONFLICT);
            told && others && has(case, "DATABRICKS_HOST")
        },
        as_if: unchanged,
    },
    Difference {
        why: "an incomplete service principal is an error, never a fallback to a person's login",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let login = ["databricks-cli", "azure-cli", "external-browser"];
            let parts = ["CLIENT_ID", "CLIENT_SECRET", "ARM_CLIENT_SECRET"];
            let env =
                case.env.iter().any(|(name, _)| parts.iter().any(|part| name.ends_with(part)));
            let file = case.file.as_ref().is_some_and(|text| text.contains("client_"));
            login.contains(&&*theirs.auth_type) && !ours.error.is_empty() && (env || file)
        },
        as_if: |case, _, _| {
            case.drop(&["DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "ARM_CLIENT_"]);
        },
    },
    Difference {
        why: "Entra tokens are sent to Databricks' domains only",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let told = ours.error.contains("is not in a domain of Databricks");
            // Go's SDK goes on to a job's identity or to a login.
            let names = ["ARM_CLIENT_ID", "ARM_USE_MSI", "DATABRICKS_AZURE_RESOURCE_ID"];
            let azure = names.iter().any(|name| has(case, name));
            told && (theirs.auth_type.contains("azure") || azure && theirs.error.is_empty())
        },
        as_if: |case, _, theirs| move_to("https://adb-7.6.azuredatabricks.net", case, theirs),
    },
    Difference {
        why: "an account's host has no databases",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let is_theirs =
                theirs.host.starts_with("https://accounts.") || theirs.error.contains(CONFLICT);
            ours.error.contains("is the account console") && is_theirs
        },
        as_if: |case, _, theirs| move_to("https://one.cloud.databricks.com", case, theirs),
    },
    Difference {
        why: "the SDK for Python does not know azure-msi",
        of: Of::Python,
        explains: |_, ours, theirs| {
            ours.auth_type == "azure-msi"
                && (theirs.auth_type.starts_with("azure-") || found_nothing(theirs))
        },
        as_if: |case, _, _| case.drop(&["ARM_USE_MSI"]),
    },
    Difference {
        why: "the SDK for Python needs a client id with a job's identity token",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let job = ["github-oidc", "azure-devops-oidc"].contains(&&*ours.auth_type);
            let later = ["env-oidc", "file-oidc", "azure-cli"].contains(&&*theirs.auth_type);
            job && !has(case, "DATABRICKS_CLIENT_ID") && (later || found_nothing(theirs))
        },
        as_if: |case, _, _| case.drop(&["ACTIONS_", "SYSTEM_"]),
    },
    Difference {
        why: "the SDK for Python tries auth types in another order",
        of: Of::Python,
        explains: |_, ours, theirs| {
            let place = |verdict: &Verdict| {
                PYTHON_ORDER.iter().position(|auth_type| *auth_type == verdict.auth_type)
            };
            place(theirs).zip(place(ours)).is_some_and(|(theirs, ours)| theirs < ours)
        },
        as_if: named,
    },
    Difference {
        why: "the SDK for Python uses the Azure CLI only for a host on Azure, even with an Azure resource id",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let in_file = case.file.as_ref().is_some_and(|text| text.contains("resource_id"));
            let is_named = in_file || has(case, "DATABRICKS_AZURE_RESOURCE_ID");
            let is_azure = ours.host.contains(".azure") || ours.host.is_empty();
            is_named && !is_azure && ours.auth_type == "azure-cli" && found_nothing(theirs)
        },
        as_if: |case, _, _| case.az = Cli::Absent,
    },
    Difference {
        why: "the SDK for Python takes a false value for a configured auth type",
        of: Of::Python,
        explains: |case, _, theirs| {
            let is_false = |value: &str| ["0", "f", "false"].contains(&&*value.to_lowercase());
            case.env.iter().any(|(name, value)| name == "ARM_USE_MSI" && is_false(value))
                && theirs.error.contains(" method configured: azure and ")
        },
        as_if: |case, _, _| case.set("ARM_USE_MSI", "true"),
    },
    Difference {
        why: "the SDK for Python takes any text for true, and a false value for a setting",
        of: Of::PythonReading,
        explains: |case, _, _| {
            let file = case.file.as_ref().is_some_and(|text| text.contains("azure_use_msi"));
            has(case, "ARM_USE_MSI") || has(case, "DATABRICKS_DEBUG_HEADERS") || file
        },
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python asks the workspace for the tenant of a service principal",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let in_file = case.file.as_ref().is_some_and(|text| text.contains("azure_tenant_id"));
            let is_missing = ours.error.ends_with(" has no azure_tenant_id");
            let is_missing = is_missing || !in_file && !has(case, "ARM_TENANT_ID");
            theirs.auth_type == "azure-client-secret" && is_missing
        },
        as_if: |case, _, _| case.set("ARM_TENANT_ID", "tenant"),
    },
    Difference {
        why: "the SDK for Python takes a profile without any key",
        of: Of::PythonReading,
        explains: |_, ours, _| ours.error.contains("has no profile "),
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python reads files in another way: indented lines continue, keys in any case, \
              quotes and comments are kept, an empty value counts",
        of: Of::PythonReading,
        explains: |case, _, _| {
            let odd = ["\n  ", "\t", "'", "\"", " #", " ;", "Host", "\n\n"];
            let empty = |line: &str| line.trim_end().ends_with(['=', ':']);
            let is_odd =
                |text: &String| odd.iter().any(|odd| text.contains(odd)) || text.lines().any(empty);
            case.file.as_ref().is_some_and(is_odd)
        },
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python keeps the path and the query of a host",
        of: Of::Python,
        explains: |_, ours, theirs| {
            let is_kept = theirs.host.contains("/sql/editor") || theirs.host.contains("?o=");
            is_kept && theirs.auth_type == ours.auth_type
        },
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python finds nothing below a host with a path or a query",
        of: Of::Python,
        explains: |_, _, theirs| {
            let is_kept = theirs.error.contains("/sql/editor") || theirs.error.contains("?o=");
            is_kept && found_nothing(theirs) && theirs.error.contains("Invalid URL 'None'")
        },
        as_if: tried,
    },
    Difference {
        why: "the SDK for Python fails in a job with an Azure identity, but no tenant or no host on Azure",
        of: Of::Python,
        explains: |_, _, theirs| {
            let failed = "github-oidc-azure: 'NoneType' object has no attribute ";
            theirs.error.starts_with(&format!("{WENT_THROUGH}{failed}"))
        },
        as_if: |case, ours, theirs| {
            case.set("ARM_TENANT_ID", "tenant");
            case.set("DATABRICKS_HOST", "https://adb-7.6.azuredatabricks.net");
            tried(case, ours, theirs);
        },
    },
    Difference {
        why: "the SDK for Python refuses a file with a repeated key or profile",
        of: Of::PythonFile,
        explains: |_, _, theirs| {
            theirs.is_file_refused && theirs.error.contains("Error: While reading")
        },
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python takes an indented line for a part of the host, and refuses the host",
        of: Of::PythonFile,
        explains: |_, _, theirs| {
            let has_lines = |(name, value): &(String, String)| {
                name == "DATABRICKS_HOST" && value.contains('\n')
            };
            let refusals = ["Invalid URL", "Port could not be cast"];
            let is_refused = refusals.iter().any(|refusal| theirs.error.contains(refusal));
            is_refused && theirs.read.iter().any(has_lines)
        },
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python does not take a host with a query for one on Azure",
        of: Of::PythonReading,
        explains: |_, _, theirs| theirs.error.contains("?o="),
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python does not count azure_login_app_id as a setting of Azure",
        of: Of::PythonReading,
        explains: |case, _, _| has(case, "DATABRICKS_AZURE_LOGIN_APP_ID"),
        as_if: unchanged,
    },
    Difference {
        why: "the SDK for Python reads a file beside azure_login_app_id, and refuses that",
        of: Of::PythonFile,
        explains: |case, _, theirs| {
            has(case, "DATABRICKS_AZURE_LOGIN_APP_ID") && refusal(theirs) == Refusal::Settings
        },
        as_if: unchanged,
    },
];

/// The SDK decides as this program does on the settings that the SDK has read.
fn unchanged(_: &mut Case, _: &Verdict, _: &mut Verdict) {}

/// The SDK decides as if the workspace had this host.
fn move_to(host: &str, case: &mut Case, theirs: &mut Verdict) {
    case.set("DATABRICKS_HOST", host);
    theirs.host = host.to_owned();
}

/// The SDK decides as if its auth type were named.
fn named(case: &mut Case, _: &Verdict, theirs: &mut Verdict) {
    case.set("DATABRICKS_AUTH_TYPE", &theirs.auth_type);
}

/// The SDK for Python fails in the auth type that its error names, which it would use otherwise.
fn tried(case: &mut Case, _: &Verdict, theirs: &mut Verdict) {
    let auth_type =
        theirs.error.trim_start_matches(WENT_THROUGH).split(':').next().unwrap().to_owned();
    let value = |name: &str| {
        let known = case.env.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let id = value("DATABRICKS_CLIENT_ID");
    theirs.values = match &*auth_type {
        "oauth-m2m" => format!("{id}|{}", value("DATABRICKS_CLIENT_SECRET")),
        "github-oidc" | "azure-devops-oidc" | "env-oidc" | "file-oidc" => id,
        _ => String::new(),
    };
    theirs.host = value("DATABRICKS_HOST");
    theirs.workspace_id = value("DATABRICKS_WORKSPACE_ID").replace("none", "");
    theirs.error.clear();
    // It asks the host before it looks whether this is such a job.
    if auth_type == "github-oidc" {
        case.set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example.org/github?v=1");
        case.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer");
    }
    case.set("DATABRICKS_AUTH_TYPE", &auth_type);
    theirs.auth_type = auth_type;
}

/// How the SDK for Python begins the error that no auth type has worked, or that one has failed.
const WENT_THROUGH: &str = "ValueError: default auth: ";

/// The order of the SDK for Python, as far as it has an identity's token or an Azure identity.
const PYTHON_ORDER: [&str; 7] = [
    "env-oidc",
    "file-oidc",
    "github-oidc",
    "azure-client-secret",
    "github-oidc-azure",
    "azure-cli",
    "azure-devops-oidc",
];

/// Whether the SDK for Python went through all auth types, or failed in one that it tried.
fn found_nothing(theirs: &Verdict) -> bool {
    theirs.error.starts_with(WENT_THROUGH)
}

fn has(case: &Case, name: &str) -> bool {
    case.env.iter().any(|(known, value)| known == name && !value.is_empty())
}
