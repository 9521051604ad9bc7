//! Agent-status: inputs → machines → Systems Manager → table.

use proto::time::{Clock, SystemClock};

use super::RunError;
use crate::{
    agent_status,
    aws::{Clients, fleet::Ec2Fleet, remote::SsmRemote},
    exit::Exit,
    inputs::AgentStatusInputs,
    output::Console,
    ports::Fleet,
    settings::{Common, chosen_machines},
};

pub(super) async fn run(inputs: &AgentStatusInputs, console: &Console) -> Result<Exit, RunError> {
    let common = Common::new(&inputs.common)?;
    let chosen = chosen_machines(inputs)?;
    let sdk = proto::aws::sdk_config(Some(common.region.clone())).await;
    let machines = match chosen {
        Some(machines) => machines,
        None => Ec2Fleet::new(Clients::new(&sdk).ec2)
            .machines(&common.pool)
            .await
            .map_err(RunError::Ask)?
            .into_iter()
            .filter(|machine| machine.alive)
            .map(|machine| machine.id)
            .collect(),
    };
    if machines.is_empty() {
        console.say(format!("the pool {} has no machine", common.pool));
        return Ok(Exit::Done);
    }
    let remote = SsmRemote::new(aws_sdk_ssm::Client::new(&sdk));
    let said = agent_status::ask(&remote, &SystemClock, &machines)
        .await
        .map_err(RunError::Ask)?;
    for line in agent_status::table(&said, SystemClock.now()) {
        console.say(line);
    }
    match said.values().filter(|said| !said.is_report()).count() {
        0 => Ok(Exit::Done),
        unanswered => Err(RunError::Unanswered(unanswered)),
    }
}
