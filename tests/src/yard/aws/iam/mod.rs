//! IAM: the policies of `packaging/iam`, held against every call that comes through the door.
//!
//! A machine calls with an access key of its own; a workflow's step tells its command in the
//! session token that [`session_of`] makes, as a role's session would. Both may do what their
//! policy allows and nothing else, so every end-to-end test also tests the policies. Calls of
//! anybody else, such as a test's own clients, are not judged.
//!
//! What is judged: the actions, the resources of DynamoDB and SQS, the partition keys, and the
//! attributes that an update names. EC2's resources and tags are not, since they would have to be
//! guessed from what the calls name.

mod access;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::service::Request;
use super::settings::Settings;
use crate::yard::imds::instance_of;

use access::Access;

pub use access::Account;
pub use policy::Policy;

/// What stands before the command in a step's session token.
const STEP: &str = "step-";

/// The session token of a step that runs this command of the controller.
pub fn session_of(command: &str) -> String {
    format!("{STEP}{command}")
}

/// Who calls, as far as IAM cares.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Command(String),
    Machine(String),
}

impl Principal {
    fn of(request: &Request) -> Option<Self> {
        if let Some(id) = instance_of(&request.caller) {
            return Some(Self::Machine(id));
        }
        let session = request.headers.get("x-amz-security-token")?.to_str().ok()?;
        Some(Self::Command(session.strip_prefix(STEP)?.to_owned()))
    }

    /// The file of its policy, without `.json`.
    fn role(&self) -> String {
        match self {
            Self::Command(command) => format!("controller-{command}"),
            Self::Machine(_) => "machine".to_owned(),
        }
    }
}

/// The policies, and what was done under each.
#[derive(Debug)]
pub(super) struct Iam {
    account: Account,
    policies: BTreeMap<String, Policy>,
    /// Actions that nobody may do.
    forbidden: Mutex<BTreeSet<String>>,
    /// What the machines' role has besides.
    attached: Mutex<Vec<Policy>>,
}

/// A call that is allowed, and under what.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// The policy's name, if the caller has one.
    pub(super) role: Option<String>,
    /// The permissions that it took.
    pub(super) actions: BTreeSet<String>,
}

impl Iam {
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        Ok(Self {
            account: Account {
                region: settings.region.clone(),
                id: settings.account.clone(),
            },
            policies: policies()?,
            forbidden: Mutex::default(),
            attached: Mutex::default(),
        })
    }

    pub(super) fn account(&self) -> &str {
        &self.account.id
    }

    pub(super) fn forbid(&self, action: &str) {
        self.forbidden().insert(action.to_owned());
    }

    pub(super) fn permit(&self, action: &str) {
        self.forbidden().remove(action);
    }

    pub(super) fn attach(&self, policy: Policy) {
        self.attached().push(policy);
    }

    fn attached(&self) -> MutexGuard<'_, Vec<Policy>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forbidden(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.forbidden
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the machines' role, or else an operator with the policies of all commands, could do
    /// this, where the call would say this of itself.
    pub(super) fn would_allow(
        &self,
        machine: bool,
        action: &str,
        resource: &str,
        context: &BTreeMap<String, BTreeSet<String>>,
    ) -> bool {
        let access = Access {
            action: action.to_owned(),
            resource: (resource != "*").then(|| resource.to_owned()),
            keys: context.get("dynamodb:LeadingKeys").cloned(),
            attributes: context.get("dynamodb:Attributes").cloned(),
        };
        if self.forbidden().contains(action) {
            return false;
        }
        if machine {
            let source = context.get("ec2:SourceInstanceARN");
            return self.machine_may(&access, source.and_then(|it| it.first()));
        }
        let mut policies = self.policies.iter();
        policies.any(|(name, policy)| {
            name.starts_with("controller-") && policy.allows(&access, &self.account, None)
        })
    }

    fn machine_may(&self, access: &Access, source: Option<&String>) -> bool {
        let allows =
            |policy: &Policy| policy.allows(access, &self.account, source.map(String::as_str));
        self.policies.get("machine").is_some_and(allows) || self.attached().iter().any(allows)
    }

    /// Whether the caller may do this; the words of the refusal otherwise.
    pub(super) fn judge(&self, request: &Request) -> Result<Granted, String> {
        let Some(principal) = Principal::of(request) else {
            return Ok(Granted::default());
        };
        let role = principal.role();
        let Some(policy) = self.policies.get(&role) else {
            return Err(format!("there is no policy packaging/iam/{role}.json"));
        };
        let source = match &principal {
            Principal::Machine(id) => Some(self.account.instance(id)),
            Principal::Command(_) => None,
        };
        let mut actions = BTreeSet::new();
        for access in access::of(request, &self.account) {
            let forbidden = self.forbidden().contains(&access.action);
            let allowed = match &source {
                Some(_) => self.machine_may(&access, source.as_ref()),
                None => policy.allows(&access, &self.account, None),
            };
            if forbidden || !allowed {
                return Err(format!(
                    "packaging/iam/{role}.json does not allow {access} (for {})",
                    request.action
                ));
            }
            actions.insert(access.action);
        }
        Ok(Granted {
            role: Some(role),
            actions,
        })
    }
}

/// Where the policies are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/iam")
}

/// Every policy by its name.
///
/// # Errors
///
/// When one cannot be read.
pub fn policies() -> io::Result<BTreeMap<String, Policy>> {
    let mut policies = BTreeMap::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let (Some(name), Some("json")) = (name, path.extension().and_then(|end| end.to_str()))
        else {
            continue;
        };
        // Who may take a role is for STS; there is nobody to ask here.
        if !name.starts_with("trust-") {
            policies.insert(name.to_owned(), Policy::parse(&fs::read(&path)?)?);
        }
    }
    Ok(policies)
}
