//! A step's inputs and an operator's flags, one a line: settings that keep to what is allowed, or one
//! line that says what was wrong.
#![no_main]

use std::ffi::OsString;

use controller::{
    inputs::{Inputs, Mode, with_mode},
    settings::{
        BadInput, Common, chosen_machines,
        github::GithubSettings,
        refresh::DesiredState,
        run::{ProvisionSettings, ReleaseSettings},
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words = std::iter::once("controller").chain(text.split('\u{1f}'));
    let words = words.map(OsString::from).collect();
    let Ok(inputs) = Inputs::read(with_mode(words, Some("provision".into()))) else {
        return;
    };
    let checked = match &inputs.mode {
        Mode::Refresh(inputs) => all([
            DesiredState::new(inputs).err(),
            GithubSettings::new(&inputs.common, &inputs.github).err(),
            Common::new(&inputs.common).err(),
        ]),
        Mode::Provision(inputs) => {
            let settings = ProvisionSettings::new(inputs).inspect(|settings| {
                assert!((1..=1000).contains(&settings.count));
                assert!(settings.label.as_str().starts_with(settings.run.as_str()));
                assert!(!settings.allowed_instance_types.is_empty());
            });
            all([settings.err(), Common::new(&inputs.common).err()])
        }
        Mode::Release(inputs) => all([
            ReleaseSettings::new(inputs).err(),
            Common::new(&inputs.common).err(),
        ]),
        Mode::AgentStatus(inputs) => all([
            chosen_machines(inputs).err(),
            Common::new(&inputs.common).err(),
        ]),
        Mode::Status(inputs) => all([Common::new(&inputs.common).err()]),
        Mode::Doctor(inputs) => all([
            GithubSettings::optional(&inputs.common, &inputs.github).err(),
            Common::new(&inputs.common).err(),
        ]),
        Mode::Destroy(inputs) => all([
            GithubSettings::optional(&inputs.common, &inputs.github).err(),
            Common::new(&inputs.common).err(),
        ]),
    };
    for bad in checked {
        assert!(!bad.input.is_empty() && !bad.wrong.is_empty() && !bad.allowed.is_empty());
    }
});

fn all<const N: usize>(checks: [Option<BadInput>; N]) -> Vec<BadInput> {
    checks.into_iter().flatten().collect()
}
