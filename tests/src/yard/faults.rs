//! Faults that a test asks for, applied where calls come in.

use wildmatch::WildMatch;

/// Calls that shall go wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `dynamodb`, `sqs`, `ec2`, `sts`, `github`; `*` wildcards.
    pub service: String,
    /// Such as `CreateFleet` or `GET /repos/acme/widgets`; `*` wildcards.
    pub action: String,
    /// The access key id of the unlucky; `*` wildcards.
    pub caller: String,
    /// What happens to them.
    pub kind: FaultKind,
    /// How many calls are spared before.
    pub spared: u32,
    /// How many calls are hit.
    pub count: u32,
}

/// How a call goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is done; this is the answer.
    Error {
        /// The HTTP status.
        status: u16,
        /// The error code, such as `RequestLimitExceeded`.
        code: String,
    },
    /// Nothing is done and the connection is cut.
    CutBeforeApplying,
    /// The call takes effect, but the caller never hears of it.
    CutAfterApplying,
    /// Nothing is done and no answer comes.
    Hang,
    /// The call takes effect and no answer comes.
    HangAfterApplying,
}

impl Fault {
    /// One call of `service` and `action` goes wrong, whoever makes it.
    pub fn new(service: &str, action: &str, kind: FaultKind) -> Self {
        Self {
            service: service.to_owned(),
            action: action.to_owned(),
            caller: "*".to_owned(),
            kind,
            spared: 0,
            count: 1,
        }
    }

    /// That many calls rather than one.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// Not the first calls, but those after so many.
    #[must_use]
    pub fn after(mut self, spared: u32) -> Self {
        self.spared = spared;
        self
    }

    /// Only calls signed with this access key id.
    #[must_use]
    pub fn of_caller(mut self, caller: &str) -> Self {
        caller.clone_into(&mut self.caller);
        self
    }

    fn hits(&self, service: &str, action: &str, caller: &str) -> bool {
        WildMatch::new(&self.service).matches(service)
            && WildMatch::new(&self.action).matches(action)
            && WildMatch::new(&self.caller).matches(caller)
    }
}

/// The faults still to come, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    open: Vec<Fault>,
    met: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.open.push(fault);
    }

    /// The fault that this call meets, used up once.
    pub(super) fn take(&mut self, service: &str, action: &str, caller: &str) -> Option<FaultKind> {
        let met = self
            .open
            .iter_mut()
            .find(|fault| fault.count > 0 && fault.hits(service, action, caller))?;
        if met.spared > 0 {
            met.spared -= 1;
            return None;
        }
        met.count -= 1;
        let kind = met.kind.clone();
        self.open.retain(|fault| fault.count > 0);
        Some(kind)
    }

    /// A fault has had its effect.
    pub(super) fn note(&mut self) {
        self.met += 1;
    }

    /// How many have had their effect.
    pub(super) fn met(&self) -> usize {
        self.met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up() {
        let mut faults = Faults::default();
        faults.add(Fault::new("ec2", "Create*", FaultKind::Hang).times(2));
        assert_eq!(faults.take("sqs", "CreateQueue", "AKIA"), None);
        let fleet = |faults: &mut Faults| faults.take("ec2", "CreateFleet", "AKIA");
        assert_eq!(fleet(&mut faults), Some(FaultKind::Hang));
        assert_eq!(fleet(&mut faults), Some(FaultKind::Hang));
        assert_eq!(fleet(&mut faults), None);
        faults.add(Fault::new("ec2", "*", FaultKind::Hang).after(1));
        assert_eq!(fleet(&mut faults), None);
        assert_eq!(fleet(&mut faults), Some(FaultKind::Hang));
    }
}
