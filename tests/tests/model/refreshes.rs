//! Refresh: looks, and acts on what it saw when the world has moved on.

use proto::state::State;

use super::{
    Weakness,
    controllers::{Controller, Write},
    row::{Row, Run},
};

/// What refresh would do with what it sees now.
pub(crate) fn plan(
    row: &Row,
    controllers: &[Controller; 2],
    listed: bool,
    without: Option<Weakness>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if row.state == State::Terminated {
        return steps;
    }
    if row.over {
        steps.push(Step::Write(Write::EndOfExpired));
    }
    for run in Run::BOTH {
        if row.run == Some(run) && controllers[run as usize].left_open() {
            steps.push(Step::Write(Write::End(run)));
        }
    }
    if row.state == State::Idle && !row.over {
        // Its template is old.
        steps.push(Step::Write(Write::EndOfGeneration(row.generation)));
        let clean = row.record().says(proto::signal::Signal::RemoveRegOk);
        if clean && !listed && without != Some(Weakness::NoRelisting) {
            steps.push(Step::List);
        }
    }
    steps
}

/// A step of refresh's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Write(Write),
    /// Sends the message of an idle machine that nobody has seen.
    List,
}
