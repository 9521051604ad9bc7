//! What all the rest stands on: the table is seen to, and the configuration read.

use proto::{
    config::{Config, GithubTokens, SCHEMA_VERSION},
    table::TableErrorKind,
};

use super::{
    Failed, RefreshPorts, RefreshSettings, Refused, Report, image, say,
    step::Step,
    table::{self, TableState, TableStep, TableTrouble},
};
use crate::ports::TemplateContent;

/// Stands for the ARN of a table that a dry run only plans to make.
const ARN_TO_COME: &str = "(known once the table is there)";

/// The table that the rest of a refresh stands on.
pub(super) struct Found {
    pub(super) arn: String,
    /// Whether it is there, or a dry run only pretends so.
    pub(super) there: bool,
    pub(super) config: Config,
    /// What new machines are made from, if that is known.
    pub(super) content: Option<TemplateContent>,
}

/// Sees to the table and reads the configuration; none when nothing else can be done.
pub(super) async fn prepare_table(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
    report: &mut Report,
) -> Option<Found> {
    let read = ports.table.config().await;
    if let Ok(config) = &read
        && let Err(refused) = check(settings, config)
    {
        report.refused = Some(refused);
        return None;
    }
    let content = image::content(settings, ports, read.as_ref().ok(), report).await?;
    if let Ok(config) = &read
        && let Some(schema) = config.schema.as_ref().filter(|_| is_settled(config, ports))
    {
        return Some(Found {
            arn: schema.table_arn.clone(),
            there: true,
            config: config.clone(),
            content,
        });
    }
    let state = see_to_table(settings, ports, out, report).await?;
    let config = match (read, &state) {
        (Ok(config), _) => config,
        (Err(_), None) => Config::default(),
        // Made by this refresh or by another one, which may have come further.
        (Err(error), Some(_)) if error.kind == TableErrorKind::NoTable => {
            match ports.table.config().await {
                Ok(config) => config,
                Err(error) => {
                    let failed = Failed::Look("the configuration");
                    report.failed.push((failed, error.into()));
                    return None;
                }
            }
        }
        (Err(error), Some(_)) => {
            let failed = Failed::Look("the configuration");
            report.failed.push((failed, error.into()));
            return None;
        }
    };
    Some(Found {
        there: state.is_some(),
        arn: state.map_or_else(|| ARN_TO_COME.to_owned(), |state| state.arn),
        config,
        content,
    })
}

/// Whether the table needs no closer look. Its features are safety nets that only an operator's
/// hand can take away, and a look costs three calls: it is taken as often as tokens are renewed.
fn is_settled(config: &Config, ports: &RefreshPorts) -> bool {
    let version = config.schema.as_ref().map(|schema| schema.version);
    let now = ports.clock.now();
    let fresh = |tokens: &GithubTokens| !tokens.is_half_over(now);
    version == Some(SCHEMA_VERSION) && config.github_tokens.as_ref().is_some_and(fresh)
}

/// Looks at the table itself and does what it lacks. The outer none: nothing else can be done; the
/// inner one: a dry run of a pool that is not there.
async fn see_to_table(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    out: &mut (dyn FnMut(&str) + Send),
    report: &mut Report,
) -> Option<Option<TableState>> {
    let state = match ports.admin.observe().await {
        Ok(state) => state,
        Err(foreign @ TableTrouble::Foreign { .. }) => {
            report.refused = Some(Refused::Table(foreign));
            return None;
        }
        Err(TableTrouble::Port(error)) => {
            report
                .failed
                .push((Failed::Look("the table"), error.into()));
            return None;
        }
    };
    let steps = table::plan(&settings.pool.resource_name(), state.as_ref());
    let planned: Vec<Step> = steps.iter().cloned().map(Step::Table).collect();
    say(&planned, out);
    report.planned.extend(planned);
    if settings.dry_run {
        return Some(state);
    }
    for step in steps {
        let done = table::apply(ports.admin.as_ref(), &settings.pool, &step).await;
        if let Err(error) = done {
            let fatal = matches!(step, TableStep::Create { .. });
            report
                .failed
                .push((Failed::Step(Box::new(Step::Table(step))), error.into()));
            if fatal {
                return None;
            }
        }
    }
    if state.is_some() {
        return Some(state);
    }
    match ports.admin.observe().await {
        Ok(state) => Some(state),
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the new table"), error.into()));
            None
        }
    }
}

/// Whether the table is this pool's, and this version's.
fn check(settings: &RefreshSettings, config: &Config) -> Result<(), Refused> {
    match &config.schema {
        Some(schema) if schema.version > SCHEMA_VERSION => Err(Refused::Newer(schema.version)),
        Some(schema) if schema.github_url != settings.github_url => Err(Refused::Others {
            pool: settings.pool.clone(),
            owner: schema.github_url.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}
