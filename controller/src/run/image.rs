//! The image of new machines, where a parameter of Systems Manager says which one it is.

use aws_config::SdkConfig;
use proto::table::Table;

use super::RunError;
use crate::{
    aws::secrets,
    output::{Console, chain},
    settings::BadInput,
};

/// The id that the parameter holds. While it cannot be read, the image that refresh recorded last
/// stays.
pub(super) async fn named(
    parameter: &str,
    sdk: &SdkConfig,
    table: &dyn Table,
    console: &Console,
) -> Result<String, RunError> {
    match secrets::parameter(parameter, sdk).await {
        Ok(held) if held.expose().starts_with("ami-") => Ok(held.expose().to_owned()),
        Ok(_) => Err(BadInput {
            input: "ami",
            wrong: format!("the parameter {parameter} holds no image id"),
            allowed: "let it hold one such as ami-0abc".to_owned(),
        }
        .into()),
        Err(error) => match recorded(table).await {
            Some(id) => {
                console.warn(format_args!(
                    "the machines keep the image {id}: {}",
                    chain(&error)
                ));
                Ok(id)
            }
            None => Err(RunError::Image(error)),
        },
    }
}

/// What the last refresh recorded, if there was one.
async fn recorded(table: &dyn Table) -> Option<String> {
    let image = table.config().await.ok()?.launch_template?.image?;
    Some(image.id)
}
