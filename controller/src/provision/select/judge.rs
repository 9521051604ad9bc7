//! Whether a machine will do, by its message or its record alone.

use std::{collections::BTreeSet, time::Duration};

use proto::{
    config::ResourceClass, ids::InstanceId, instance::InstanceRecord, message::PoolMessage,
    provision::Request, time::Time,
};
use wildmatch::WildMatch;

/// What is being looked for.
pub(in crate::provision) struct Wish<'a> {
    pub(in crate::provision) request: &'a Request,
    pub(in crate::provision) class: &'a ResourceClass,
    /// What new machines are made from now.
    pub(in crate::provision) template_version: i64,
    /// How long a machine stays idle at most; none in a pool that keeps some.
    pub(in crate::provision) idle_time: Option<Duration>,
}

/// What a message is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Its machine will do.
    Claim,
    /// Another request may want its machine.
    GiveBack(&'static str),
    /// Nobody can use it any more. Should its machine be idle all the same, refresh lists it again.
    Delete(&'static str),
}

impl Wish<'_> {
    /// What to do with a message. One whose machine would do is never judged by its age: the claim
    /// knows better.
    pub(super) fn judge(&self, message: &PoolMessage, now: Time) -> Use {
        if message.template_version < self.template_version {
            // Refresh terminates such a machine, and does not list it again.
            return Use::Delete("its launch template is old");
        }
        match self.unsuitable(message) {
            None => Use::Claim,
            Some(why) => match self.idle_time {
                Some(idle_time) if message.pooled_at + idle_time <= now => {
                    Use::Delete("its machine's idle time is over")
                }
                Some(_) | None => Use::GiveBack(why),
            },
        }
    }

    fn unsuitable(&self, message: &PoolMessage) -> Option<&'static str> {
        let Self { request, class, .. } = self;
        let mut types = request.allowed_instance_types.iter();
        if message.usage_class != request.usage_class {
            Some("another usage class")
        } else if !types.any(|pattern| WildMatch::new(pattern).matches(&message.instance_type)) {
            Some("another instance type")
        } else if message.resource_class != class.name
            || message.cpu != class.cpu
            || message.mmem < class.mmem
        {
            Some("another size")
        } else if message.template_version != self.template_version {
            Some("a newer launch template")
        } else {
            None
        }
    }

    /// Which idle machines would do, by their records: none means that the queue need not be
    /// asked.
    pub(in crate::provision) fn candidates(
        &self,
        idle: &[InstanceRecord],
        now: Time,
    ) -> BTreeSet<InstanceId> {
        idle.iter()
            .filter(|record| {
                record.label.is_none()
                    && record.job.is_none()
                    && !record.is_interrupted()
                    && record.threshold.is_some_and(|threshold| threshold > now)
                    && self.judge(&PoolMessage::of(record, now), now) == Use::Claim
            })
            .map(|record| record.id().clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::{instance::UsageClass, message::VERSION};

    use super::*;

    const IDLE_TIME: Duration = Duration::from_mins(7);

    fn message() -> PoolMessage {
        PoolMessage {
            v: VERSION,
            id: "i-0123456789abcdef0".parse().unwrap(),
            resource_class: "large".parse().unwrap(),
            instance_type: "m6i.large".into(),
            cpu: 2,
            mmem: 4096,
            usage_class: UsageClass::OnDemand,
            template_version: 3,
            pooled_at: Time::EPOCH,
        }
    }

    fn spot() -> PoolMessage {
        PoolMessage {
            usage_class: UsageClass::Spot,
            ..message()
        }
    }

    fn verdict_at(message: &PoolMessage, types: &str, now: Time) -> Use {
        judge(message, types, now, Some(IDLE_TIME))
    }

    fn judge(message: &PoolMessage, types: &str, now: Time, idle_time: Option<Duration>) -> Use {
        let wish = Wish {
            request: &Request {
                count: 1,
                resource_class: "large".parse().unwrap(),
                usage_class: UsageClass::OnDemand,
                allowed_instance_types: types.split(' ').map(str::to_owned).collect(),
                max_runtime_sec: 60,
            },
            class: &ResourceClass {
                name: "large".parse().unwrap(),
                cpu: 2,
                mmem: 4096,
                queue_url: String::new(),
            },
            template_version: 3,
            idle_time,
        };
        wish.judge(message, now)
    }

    fn verdict(message: &PoolMessage, types: &str) -> Use {
        verdict_at(message, types, Time::EPOCH)
    }

    #[test]
    fn what_was_asked_for_will_do() {
        for types in ["c* m* r*", "m6i.*", "m6i.large", "*"] {
            assert_eq!(verdict(&message(), types), Use::Claim, "{types}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_given_back() {
        let another_type = Use::GiveBack("another instance type");
        assert_eq!(verdict(&message(), "c*"), another_type);
        assert_eq!(verdict(&message(), "m6i"), another_type);
        assert_eq!(verdict(&spot(), "*"), Use::GiveBack("another usage class"));
        let small = PoolMessage {
            mmem: 2048,
            ..message()
        };
        assert_eq!(verdict(&small, "*"), Use::GiveBack("another size"));
        let newer = PoolMessage {
            template_version: 4,
            ..message()
        };
        assert_eq!(
            verdict(&newer, "*"),
            Use::GiveBack("a newer launch template")
        );
    }

    #[test]
    fn what_nobody_can_use_any_more_is_deleted() {
        let old = PoolMessage {
            template_version: 2,
            ..message()
        };
        assert!(matches!(verdict(&old, "*"), Use::Delete(_)));
        let late = Time::EPOCH + IDLE_TIME;
        assert!(matches!(verdict_at(&spot(), "*", late), Use::Delete(_)));
        let just = late - Duration::from_millis(1);
        assert!(matches!(verdict_at(&spot(), "*", just), Use::GiveBack(_)));
        // In a pool that keeps some, it may be another's for hours.
        assert!(matches!(judge(&spot(), "*", late, None), Use::GiveBack(_)));
        // The claim's own condition tells whether its time is over.
        assert_eq!(verdict_at(&message(), "*", late), Use::Claim);
    }
}
