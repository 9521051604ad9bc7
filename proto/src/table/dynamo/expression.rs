//! A [`Change`] as DynamoDB writes it: condition, update, names and values.

use std::{collections::HashMap, fmt::Write as _};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::{
    change::{Assign, Change, Clause},
    signal::Signal,
};

/// The parts of an `UpdateItem`.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) condition: String,
    pub(super) update: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expression {
    pub(super) fn of(change: &Change) -> Result<Self, serde_dynamo::Error> {
        let mut expression = Self::default();
        // An update makes an item where there is none: each change asks for one.
        let mut conditions = vec![format!("attribute_exists({})", expression.name("pk"))];
        for clause in &change.when {
            conditions.extend(expression.clause(clause)?);
        }
        expression.condition = conditions.join(" AND ");

        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for assign in &change.set {
            match expression.assign(assign)? {
                Action::Set(text) => set.push(text),
                Action::Remove(text) => remove.push(text),
            }
        }
        for (verb, parts) in [("SET", set), ("REMOVE", remove)] {
            if !parts.is_empty() {
                let _ = write!(expression.update, "{verb} {} ", parts.join(", "));
            }
        }
        Ok(expression)
    }

    /// A placeholder for an attribute: many good names are reserved words.
    fn name(&mut self, attribute: &str) -> String {
        let placeholder = format!("#{attribute}");
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    fn value(&mut self, value: impl Serialize) -> Result<String, serde_dynamo::Error> {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(
            placeholder.clone(),
            serde_dynamo::to_attribute_value(value)?,
        );
        Ok(placeholder)
    }

    fn compare(
        &mut self,
        attribute: &str,
        operator: &str,
        value: impl Serialize,
    ) -> Result<String, serde_dynamo::Error> {
        Ok(format!(
            "{} {operator} {}",
            self.name(attribute),
            self.value(value)?
        ))
    }

    fn clause(&mut self, clause: &Clause) -> Result<Vec<String>, serde_dynamo::Error> {
        Ok(match clause {
            Clause::Exists => Vec::new(),
            Clause::StateIn(states) => {
                let values = states
                    .iter()
                    .map(|state| self.value(state))
                    .collect::<Result<Vec<_>, _>>()?;
                vec![format!("{} IN ({})", self.name("state"), values.join(", "))]
            }
            Clause::LabelIs(label) => vec![self.compare("label", "=", label)?],
            Clause::NoLabel => vec![format!("attribute_not_exists({})", self.name("label"))],
            Clause::GenerationIs(generation) => {
                vec![self.compare("generation", "=", generation)?]
            }
            Clause::ThresholdAfter(time) => vec![self.compare("threshold", ">", time)?],
            Clause::ThresholdReached(time) => vec![self.compare("threshold", "<=", time)?],
            Clause::Reported(signal, generation) => {
                let report = self.name("report");
                let signal = format!("{report}.{} = {}", self.name("signal"), self.value(signal)?);
                let generation = format!(
                    "{report}.{} = {}",
                    self.name("generation"),
                    self.value(generation)?
                );
                vec![signal, generation]
            }
            Clause::NoJob => vec![format!("attribute_not_exists({})", self.name("job"))],
            Clause::Clean => {
                let report = self.name("report");
                let signal = self.name("signal");
                let generation = self.name("generation");
                let clean = self.value(Signal::RemoveRegOk)?;
                vec![
                    format!("{report}.{signal} = {clean}"),
                    format!("{report}.{generation} = {generation}"),
                    format!("attribute_not_exists({})", self.name("job")),
                ]
            }
            Clause::BeatAfter(time) => vec![self.compare("heartbeat", ">=", time)?],
            Clause::TokenIs(token) => vec![self.compare("token", "=", token)?],
            Clause::BeatIs(time) => vec![self.compare("heartbeat", "=", time)?],
        })
    }

    fn assign(&mut self, assign: &Assign) -> Result<Action, serde_dynamo::Error> {
        match assign {
            Assign::State(state) => self.set("state", state),
            Assign::Label(label) => self.set_or_remove("label", label.as_ref()),
            Assign::Threshold(threshold) => self.set_or_remove("threshold", threshold.as_ref()),
            Assign::NextGeneration => {
                let generation = self.name("generation");
                Ok(Action::Set(format!(
                    "{generation} = {generation} + {}",
                    self.value(1)?
                )))
            }
            Assign::Since(since) => self.set("since", since),
            Assign::Token(token) => self.set_or_remove("token", token.as_ref()),
            Assign::Reason(reason) => self.set("reason", reason),
            Assign::ExpiresAt(time) => self.set(super::TTL_ATTRIBUTE, time.as_secs()),
            Assign::Heartbeat(time) => self.set("heartbeat", time),
            Assign::Report(report) => self.set("report", report),
            Assign::Runner(runner) => self.set("runner", runner),
            Assign::Job(job) => self.set_or_remove("job", job.as_ref()),
            Assign::Jobs(jobs) => self.set("jobs", jobs),
            Assign::Health(health) => self.set("health", health),
        }
    }

    fn set(
        &mut self,
        attribute: &str,
        value: impl Serialize,
    ) -> Result<Action, serde_dynamo::Error> {
        Ok(Action::Set(self.compare(attribute, "=", value)?))
    }

    fn set_or_remove(
        &mut self,
        attribute: &str,
        value: Option<&impl Serialize>,
    ) -> Result<Action, serde_dynamo::Error> {
        match value {
            Some(value) => self.set(attribute, value),
            None => Ok(Action::Remove(self.name(attribute))),
        }
    }
}

enum Action {
    Set(String),
    Remove(String),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{instance::Secret, state::Transition, time::Time};

    #[test]
    fn a_claim_as_dynamodb_reads_it() {
        let claim = Transition::Claim {
            label: "7".parse().unwrap(),
            token: Secret::new("t"),
            timeout: Duration::from_secs(30),
        };
        let expression = Expression::of(&claim.change(Time::from_millis(0))).unwrap();
        assert_eq!(
            expression.condition,
            "attribute_exists(#pk) AND #state IN (:v0) AND attribute_not_exists(#label) \
             AND #threshold > :v1 AND #report.#signal = :v2 AND #report.#generation = #generation \
             AND attribute_not_exists(#job)"
        );
        assert_eq!(
            expression.update.trim(),
            "SET #generation = #generation + :v3, #since = :v4, #state = :v5, #label = :v6, \
             #threshold = :v7, #token = :v8"
        );
    }
}
