//! The image of new machines.

use proto::config::{Config, Image};

use super::{Failed, RefreshPorts, RefreshSettings, Refused, Report};
use crate::ports::{PortError, TemplateContent};

/// An image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnfitImage {
    /// There is none of that id.
    #[error("input `ami`: there is no image {0} in this region; give one that is there")]
    Unknown(String),
    /// It does not fit on the disk that was asked for.
    #[error(
        "input `root-volume-size-gib`: {wanted} GiB is too small for the image {}; give {} or more",
        image.id, image.root_gib
    )]
    Larger {
        /// How large the disk is to be.
        wanted: u32,
        /// The image.
        image: Image,
    },
}

/// What new machines are made from; none if that cannot be told now. The outer none: the image is
/// bad input, and nothing is to be touched. One that a parameter names changes without anybody's
/// hand: then the machines that there are must be looked after all the same.
pub(super) async fn content(
    settings: &RefreshSettings,
    ports: &RefreshPorts,
    config: Option<&Config>,
    report: &mut Report,
) -> Option<Option<TemplateContent>> {
    let unfit = match look(&settings.template.image, ports, config).await {
        Ok(Some(image)) => match settings.template.root_volume.size_gib {
            Some(wanted) if wanted < image.root_gib => UnfitImage::Larger { wanted, image },
            Some(_) | None => return Some(Some(settings.template.with_image(image))),
        },
        Ok(None) => UnfitImage::Unknown(settings.template.image.clone()),
        Err(error) => {
            report
                .failed
                .push((Failed::Look("the image"), error.into()));
            return Some(None);
        }
    };
    if settings.image_is_input {
        report.refused = Some(Refused::Image(unfit));
        return None;
    }
    report
        .failed
        .push((Failed::Look("the image"), unfit.into()));
    Some(None)
}

/// One that the last refresh looked at needs no second look: an image never changes.
async fn look(
    id: &str,
    ports: &RefreshPorts,
    config: Option<&Config>,
) -> Result<Option<Image>, PortError> {
    let known = config.and_then(|config| config.launch_template.as_ref()?.image.clone());
    match known.filter(|image| image.id == id) {
        Some(image) => Ok(Some(image)),
        None => ports.fleet.image(id).await,
    }
}
