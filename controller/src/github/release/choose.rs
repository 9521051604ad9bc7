//! Which of the listed releases it is, where its archives are, and whether GitHub takes it.

use std::time::Duration;

use proto::{
    agent_config::{Download, Downloads, RunnerRelease},
    time::Time,
};

use super::{Asset, Found, Listed, RunnerVersion, Wanted};

/// GitHub registers no older runner.
/// Source: <https://github.blog/changelog/2025-11-20-github-actions-self-hosted-runner-minimum-version-enforcement-extended/>.
const OLDEST: RunnerVersion = RunnerVersion::new(2, 329, 0);
/// For so long after the next release a runner still gets jobs.
/// Source: <https://docs.github.com/actions/reference/runners/self-hosted-runners>.
const LIFE: Duration = Duration::from_hours(30 * 24);

/// No release will do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRelease {
    /// GitHub does not know this version.
    #[error("there is no runner {wanted}; the newest is {newest}")]
    Unknown {
        /// What was wanted.
        wanted: RunnerVersion,
        /// The newest there is.
        newest: RunnerVersion,
    },
    /// The list is empty.
    #[error("GitHub lists no release of the runner")]
    None,
    /// The release has no archive, or none with a sum, for an architecture.
    #[error("the runner's release {version} has no archive with a SHA-256 for linux-{arch}")]
    Archive {
        /// The release.
        version: RunnerVersion,
        /// GitHub's name of the architecture.
        arch: &'static str,
    },
}

/// Why GitHub does not take a runner of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// It cannot register.
    #[error("GitHub registers no runner {version}: it has to be {OLDEST} or newer")]
    TooOld {
        /// The version.
        version: RunnerVersion,
    },
    /// It gets no jobs.
    #[error(
        "GitHub gives a runner {version} no jobs: its successor {next} is out since {since}, and \
         30 days after that it is refused; take a newer one, or `latest`"
    )]
    Superseded {
        /// The version.
        version: RunnerVersion,
        /// The next one.
        next: RunnerVersion,
        /// When that was published.
        since: Time,
    },
}

/// Finds the wanted one among the listed.
pub(super) fn choose(wanted: Wanted, listed: &[Listed], now: Time) -> Result<Found, NoRelease> {
    let public = || {
        listed
            .iter()
            .filter(|release| !release.draft && !release.prerelease)
            .filter_map(|release| Some((release.version()?, release)))
    };
    let newest = public().max_by_key(|(version, _)| *version);
    let chosen = match wanted {
        Wanted::Latest => newest,
        // Somebody who names a version may want one that not everybody gets yet.
        Wanted::Pinned(version) => listed
            .iter()
            .find(|release| release.is(version))
            .map(|release| (version, release)),
    };
    let Some((version, release)) = chosen else {
        return Err(match (wanted, newest) {
            (Wanted::Pinned(wanted), Some((newest, _))) => NoRelease::Unknown { wanted, newest },
            (Wanted::Pinned(_) | Wanted::Latest, _) => NoRelease::None,
        });
    };
    let next = public()
        .filter(|(other, _)| *other > version)
        .min_by_key(|(other, _)| *other)
        .and_then(|(next, release)| Some((next, release.published_at?)));
    Ok(Found {
        release: RunnerRelease {
            version: version.to_string(),
            downloads: Downloads {
                x86_64: download(release, version, "x64")?,
                aarch64: download(release, version, "arm64")?,
            },
        },
        outdated: outdated(version, next, now),
    })
}

/// Whether GitHub refuses this version, by the release that followed it.
fn outdated(
    version: RunnerVersion,
    next: Option<(RunnerVersion, Time)>,
    now: Time,
) -> Option<Outdated> {
    if version < OLDEST {
        return Some(Outdated::TooOld { version });
    }
    let (next, since) = next.filter(|(_, since)| now.since(*since) > LIFE)?;
    Some(Outdated::Superseded {
        version,
        next,
        since,
    })
}

fn download(
    release: &Listed,
    version: RunnerVersion,
    arch: &'static str,
) -> Result<Download, NoRelease> {
    let name = format!("actions-runner-linux-{arch}-{version}.tar.gz");
    let found = || {
        let asset = release.assets.iter().find(|asset| asset.name == name)?;
        let sha256 = sum(asset).or_else(|| told_sum(release.body.as_deref()?, arch))?;
        Some(Download {
            url: asset.browser_download_url.clone(),
            sha256,
        })
    };
    found().ok_or(NoRelease::Archive { version, arch })
}

fn sum(asset: &Asset) -> Option<String> {
    checked(asset.digest.as_deref()?.strip_prefix("sha256:")?)
}

/// The sum between the marks that a release's notes put around it.
fn told_sum(body: &str, arch: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<!-- BEGIN SHA linux-{arch} -->"))?;
    let (sum, _) = rest.split_once("<!-- END SHA")?;
    checked(sum.trim())
}

fn checked(sum: &str) -> Option<String> {
    let valid = sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
    valid.then(|| sum.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn release(version: &str, day: i64, digests: bool) -> Listed {
        let asset = |arch: &str| Asset {
            name: format!("actions-runner-linux-{arch}-{version}.tar.gz"),
            browser_download_url: format!("https://example.com/{version}/{arch}"),
            digest: digests.then(|| format!("sha256:{}", "A".repeat(64))),
        };
        let told = |arch: &str| {
            let sum = "b".repeat(64);
            format!("- <!-- BEGIN SHA linux-{arch} -->{sum}<!-- END SHA linux-{arch} -->\n")
        };
        Listed {
            tag_name: format!("v{version}"),
            draft: false,
            prerelease: false,
            published_at: Some(Time::from_millis(day * DAY)),
            body: Some([told("x64"), told("arm64")].concat()),
            assets: vec![asset("x64"), asset("arm64")],
        }
    }

    fn pinned(version: &str) -> Wanted {
        Wanted::Pinned(version.parse().unwrap())
    }

    #[test]
    fn latest_is_the_highest_that_everybody_gets() {
        let mut early = release("2.337.0", 20, true);
        early.prerelease = true;
        let listed = [
            early,
            release("2.99.0", 1, true),
            release("2.336.0", 10, true),
        ];
        let found = choose(Wanted::Latest, &listed, Time::from_millis(90 * DAY)).unwrap();
        assert_eq!(found.release.version, "2.336.0");
        assert_eq!(found.outdated, None, "nobody has anything newer");
        let arm = &found.release.downloads.aarch64;
        assert_eq!(arm.url, "https://example.com/2.336.0/arm64");
        assert_eq!(arm.sha256, "a".repeat(64));
        let early = choose(pinned("2.337.0"), &listed, Time::EPOCH).unwrap();
        assert_eq!(early.release.version, "2.337.0");
    }

    #[test]
    fn sums_are_in_the_notes_of_older_releases() {
        let listed = [release("2.336.0", 10, false)];
        let found = choose(Wanted::Latest, &listed, Time::EPOCH).unwrap();
        assert_eq!(found.release.downloads.x86_64.sha256, "b".repeat(64));
        let mut bare = release("2.336.0", 10, false);
        bare.body = None;
        assert!(matches!(
            choose(Wanted::Latest, &[bare], Time::EPOCH),
            Err(NoRelease::Archive { arch: "x64", .. })
        ));
    }

    #[test]
    fn a_version_is_refused_thirty_days_after_the_next_one() {
        let listed = [
            release("2.338.0", 50, true),
            release("2.337.0", 40, true),
            release("2.336.0", 10, true),
        ];
        let outdated = |day| {
            choose(pinned("2.336.0"), &listed, Time::from_millis(day * DAY))
                .unwrap()
                .outdated
        };
        assert_eq!(outdated(70), None);
        assert!(matches!(
            outdated(71),
            Some(Outdated::Superseded { next, .. }) if next.to_string() == "2.337.0"
        ));
        let ancient = [release("2.328.0", 0, true)];
        let found = choose(pinned("2.328.0"), &ancient, Time::EPOCH).unwrap();
        assert!(matches!(found.outdated, Some(Outdated::TooOld { .. })));
    }

    #[test]
    fn a_version_that_is_not_there_is_said_with_the_newest() {
        let listed = [release("2.336.0", 10, true)];
        let error = choose(pinned("9.9.9"), &listed, Time::EPOCH).unwrap_err();
        assert!(error.to_string().contains("the newest is 2.336.0"));
        assert_eq!(
            choose(Wanted::Latest, &[], Time::EPOCH),
            Err(NoRelease::None)
        );
    }
}
