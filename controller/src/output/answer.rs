//! The one JSON object that a step answers with, if that is what is wanted.

use serde_json::{Value, json};

use super::{Trouble, chain};
use crate::{
    provision::{Provisioned, Ready},
    refresh::Report,
    release::GivenBack,
};

/// A provision that got its machines.
pub(super) fn provisioned(provisioned: &Provisioned) -> Value {
    let machine = |ready: &Ready| {
        json!({
            "id": ready.id,
            "type": ready.instance_type,
            "zone": ready.zone,
            "usageClass": ready.usage,
            "reused": ready.reused,
            "seconds": ready.after.map(|after| after.as_secs_f64()),
        })
    };
    let phases = provisioned.phases.iter();
    let phases = phases.map(|(phase, time)| json!({"phase": phase, "seconds": time.as_secs_f64()}));
    json!({
        "exitCode": 0,
        "label": provisioned.label,
        "machines": provisioned.machines.iter().map(machine).collect::<Vec<_>>(),
        "reused": provisioned.reused(),
        "created": provisioned.created(),
        "seconds": provisioned.took.as_secs_f64(),
        "phases": phases.collect::<Vec<_>>(),
    })
}

/// A release.
pub(super) fn released(given: &GivenBack) -> Value {
    let terminated = given.terminated.iter();
    let terminated = terminated.map(|(id, why)| json!({"id": id, "reason": why}));
    json!({
        "exitCode": 0,
        "pooled": given.pooled,
        "terminated": terminated.collect::<Vec<_>>(),
        "gone": given.gone,
    })
}

/// A refresh: its plan, each step in words.
pub(super) fn refreshed(report: &Report) -> Value {
    let planned = report.planned.iter().map(ToString::to_string);
    json!({
        "exitCode": 0,
        "planned": planned.collect::<Vec<_>>(),
        "raised": report.raised,
        "leftTo": report.left_to,
    })
}

/// A step that failed.
pub(super) fn failure(trouble: &Trouble<'_>) -> Value {
    let mut answer = trouble.refresh.map_or_else(|| json!({}), refreshed);
    if let Some(report) = trouble.refresh {
        let failed = report.failed.iter();
        let failed = failed
            .map(|(step, error)| json!({"step": step.to_string(), "error": chain(error.as_ref())}));
        answer["failed"] = failed.collect();
    }
    answer["exitCode"] = (trouble.exit as u8).into();
    answer["error"] = chain(trouble.error).into();
    answer["remedy"] = json!(trouble.remedy);
    answer["left"] = json!(trouble.left);
    answer
}
