//! What a [`Fleet`] promises. Each promise ends the machines that it launched.

use std::time::Duration;

use controller::ports::{
    Allocation, Fleet, FleetAnswer, FleetRequest, RootVolume, TemplateContent, Unknown,
};
use proto::{
    ids::{InstanceId, PoolName},
    instance::UsageClass,
};
use tokio::time::{Instant, sleep};

use super::promise::{Gap, promises, try_all};

/// Within this EC2 knows of what was done.
const SOON: Duration = Duration::from_secs(10);
/// A machine that there has never been.
const NOBODY: &str = "i-0fedcba9876543210";

/// A form of the port, and what there is at it.
pub struct Form<'a> {
    /// It.
    pub fleet: &'a dyn Fleet,
    /// An image.
    pub image: String,
    /// A subnet.
    pub subnet: String,
    /// A security group.
    pub security_group: String,
    /// From now on so many machines can be had, where somebody can decide that.
    pub shortage: Option<&'a (dyn Fn(Option<u32>) + Sync)>,
}

/// Tries every promise.
///
/// # Panics
///
/// When one is broken that is no gap, or a gap is none after all.
pub async fn check(form: &Form<'_>, gaps: &[Gap]) {
    let promises = promises![form;
        an_image_is_known_by_its_id,
        a_template_follows_its_content,
        versions_of_a_template_are_deleted_once,
        what_is_launched_is_shown_with_its_request,
        machines_are_of_the_size_that_was_asked_for,
        the_zone_of_a_machine_is_told,
        the_same_request_again_launches_nothing,
        a_spot_request_launches,
        a_subnet_that_is_not_there_is_told,
        a_size_that_nobody_has_is_told,
        a_shortage_is_told_beside_what_was_launched,
        what_is_terminated_is_over,
        an_unknown_machine_spoils_no_batch,
        other_pools_machines_are_not_shown,
    ];
    try_all(promises, gaps).await;
}

impl Form<'_> {
    fn content(&self, user_data: &str) -> TemplateContent {
        TemplateContent {
            image: proto::config::Image {
                id: self.image.clone(),
                root_device: "/dev/xvda".to_owned(),
                root_gib: 8,
            },
            root_volume: RootVolume {
                size_gib: Some(20),
                kind: "gp3".to_owned(),
            },
            key_name: None,
            iam_instance_profile: "paddock-runner".to_owned(),
            security_group_ids: vec![self.security_group.clone()],
            user_data: user_data.as_bytes().to_vec(),
            tags: vec![("paddock:pool".to_owned(), "contract".to_owned())],
        }
    }

    /// A request for machines of a template of this name. The token is the name.
    async fn request(&self, name: &str, count: u32) -> FleetRequest {
        let template = self
            .fleet
            .put_template(&format!("contract-{name}"), &self.content(name), name)
            .await
            .expect("a template");
        FleetRequest {
            client_token: name.to_owned(),
            count,
            template_id: template.id,
            template_version: template.version,
            subnet_ids: vec![self.subnet.clone()],
            cpu: 2,
            mmem: 4096,
            allowed_instance_types: vec!["c5.*".to_owned()],
            usage_class: UsageClass::OnDemand,
            allocation: Allocation::LowestPrice,
            max_price: None,
            tags: vec![("paddock:pool".to_owned(), "contract".to_owned())],
        }
    }

    async fn launch(&self, request: &FleetRequest) -> FleetAnswer {
        self.fleet.launch(request).await.expect("an answer")
    }

    async fn end(&self, ids: &[InstanceId]) {
        let left = self.fleet.terminate(ids, Unknown::NotYet).await;
        let left = left.expect("an answer");
        assert!(left.is_empty(), "{left:?}");
    }

    /// Waits until those of these machines that EC2 shows as alive are so many.
    async fn until_alive(&self, pool: &str, ids: &[InstanceId], count: usize) {
        let deadline = Instant::now() + SOON;
        let pool: PoolName = pool.parse().expect("a name");
        loop {
            let shown = self.fleet.machines(&pool).await.expect("listed");
            let alive = shown.iter().filter(|it| it.alive && ids.contains(&it.id));
            if alive.count() == count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not {count} of {ids:?}: {shown:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn ids(answer: &FleetAnswer) -> Vec<InstanceId> {
    answer.launched.iter().map(|it| it.id.clone()).collect()
}

async fn an_image_is_known_by_its_id(form: &Form<'_>) {
    let image = form.fleet.image(&form.image).await.expect("an answer");
    let image = image.expect("it is there");
    assert_eq!(image.id, form.image);
    assert!(image.root_device.starts_with("/dev/"), "{image:?}");
    assert!(image.root_gib > 0, "{image:?}");
    let none = form.fleet.image("ami-0fedcba9876543210").await;
    assert_eq!(none.expect("an answer"), None);
}

async fn a_template_follows_its_content(form: &Form<'_>) {
    let name = "contract-versions";
    let put = async |user_data: &str| {
        let content = form.content(user_data);
        let put = form.fleet.put_template(name, &content, user_data).await;
        put.expect("it is put")
    };
    let none = form.fleet.template(name).await.expect("an answer");
    assert_eq!(none, None);
    let first = put("one").await;
    assert_eq!((first.version, first.content_hash()), (1, Some("one")));
    assert_eq!(put("one").await, first, "nothing new");
    let second = put("two").await;
    assert_eq!(second.id, first.id);
    assert_eq!((second.version, second.content_hash()), (2, Some("two")));
    let back = put("one").await;
    assert_eq!((back.version, back.versions.len()), (1, 2));
    let seen = form.fleet.template(name).await.expect("an answer");
    assert_eq!(seen, Some(back));
}

async fn versions_of_a_template_are_deleted_once(form: &Form<'_>) {
    let name = "contract-deleted";
    for text in ["one", "two", "three"] {
        let content = form.content(text);
        let put = form.fleet.put_template(name, &content, text).await;
        put.expect("it is put");
    }
    let seen = async || {
        let seen = form.fleet.template(name).await.expect("an answer");
        seen.expect("it is there")
    };
    let id = seen().await.id;
    for _ in 0..2 {
        let deleted = form.fleet.delete_versions(&id, &[1, 2]).await;
        deleted.expect("no error");
        let versions: Vec<i64> = seen().await.versions.into_keys().collect();
        assert_eq!(versions, [3]);
    }
}

async fn what_is_launched_is_shown_with_its_request(form: &Form<'_>) {
    let request = form.request("shown", 2).await;
    let answer = form.launch(&request).await;
    let ids = ids(&answer);
    assert_eq!((ids.len(), answer.errors.len()), (2, 0), "{answer:?}");
    assert_ne!(ids[0], ids[1]);
    form.until_alive("contract", &ids, 2).await;
    let pool = "contract".parse().expect("a name");
    let shown = form.fleet.machines(&pool).await.expect("listed");
    for machine in shown.iter().filter(|it| ids.contains(&it.id)) {
        assert_eq!(machine.fleet.as_deref(), Some("shown"));
    }
    form.end(&ids).await;
}

async fn machines_are_of_the_size_that_was_asked_for(form: &Form<'_>) {
    let request = form.request("size", 1).await;
    let answer = form.launch(&request).await;
    form.end(&ids(&answer)).await;
    assert_eq!(answer.launched[0].instance_type, "c5.large");
}

async fn the_zone_of_a_machine_is_told(form: &Form<'_>) {
    let answer = form.launch(&form.request("zone", 1).await).await;
    form.end(&ids(&answer)).await;
    assert!(!answer.launched[0].zone.is_empty(), "{answer:?}");
}

async fn the_same_request_again_launches_nothing(form: &Form<'_>) {
    let request = form.request("again", 1).await;
    let (first, second) = (form.launch(&request).await, form.launch(&request).await);
    form.end(&[ids(&first), ids(&second)].concat()).await;
    assert_eq!(ids(&first), ids(&second));
}

async fn a_spot_request_launches(form: &Form<'_>) {
    let request = FleetRequest {
        usage_class: UsageClass::Spot,
        allocation: Allocation::PriceCapacityOptimized,
        ..form.request("spot", 1).await
    };
    let answer = form.launch(&request).await;
    assert_eq!(ids(&answer).len(), 1, "{answer:?}");
    form.end(&ids(&answer)).await;
}

/// EC2 says either that a part was not met, or no to the whole.
async fn is_refused(form: &Form<'_>, request: &FleetRequest) -> String {
    match form.fleet.launch(request).await {
        Ok(answer) => {
            form.end(&ids(&answer)).await;
            assert!(answer.launched.is_empty(), "{answer:?}");
            let first = answer.errors.first().expect("a reason");
            first.code.clone()
        }
        Err(error) => error.code.expect("a reason"),
    }
}

async fn a_subnet_that_is_not_there_is_told(form: &Form<'_>) {
    let request = FleetRequest {
        subnet_ids: vec!["subnet-0fedcba9876543210".to_owned()],
        ..form.request("subnet", 1).await
    };
    let code = is_refused(form, &request).await;
    assert!(code.contains("Subnet"), "{code}");
}

async fn a_size_that_nobody_has_is_told(form: &Form<'_>) {
    let request = FleetRequest {
        allowed_instance_types: vec!["zz9.*".to_owned()],
        ..form.request("nobody", 1).await
    };
    is_refused(form, &request).await;
}

async fn a_shortage_is_told_beside_what_was_launched(form: &Form<'_>) {
    let shortage = form.shortage.expect("somebody decides what can be had");
    let request = form.request("shortage", 3).await;
    shortage(Some(1));
    let answer = form.launch(&request).await;
    shortage(None);
    form.end(&ids(&answer)).await;
    assert_eq!(answer.launched.len(), 1, "{answer:?}");
    assert_eq!(answer.errors[0].code, "InsufficientInstanceCapacity");
}

async fn what_is_terminated_is_over(form: &Form<'_>) {
    let answer = form.launch(&form.request("over", 2).await).await;
    let ids = ids(&answer);
    form.until_alive("contract", &ids, 2).await;
    form.end(&ids[..1]).await;
    form.until_alive("contract", &ids, 1).await;
    // One that has ended already, and one that has not.
    form.end(&ids).await;
    form.until_alive("contract", &ids, 0).await;
}

async fn an_unknown_machine_spoils_no_batch(form: &Form<'_>) {
    let answer = form.launch(&form.request("spoilt", 1).await).await;
    let nobody: InstanceId = NOBODY.parse().expect("an id");
    let mut all = ids(&answer);
    form.until_alive("contract", &all, 1).await;
    all.push(nobody.clone());
    let left = form.fleet.terminate(&all, Unknown::Gone).await;
    let left = left.expect("an answer");
    assert!(left.is_empty(), "{left:?}");
    form.until_alive("contract", &all, 0).await;
    let left = form
        .fleet
        .terminate(std::slice::from_ref(&nobody), Unknown::NotYet)
        .await;
    let left: Vec<InstanceId> = left
        .expect("an answer")
        .into_iter()
        .map(|it| it.0)
        .collect();
    assert_eq!(left, [nobody]);
}

async fn other_pools_machines_are_not_shown(form: &Form<'_>) {
    let tags = vec![("paddock:pool".to_owned(), "other".to_owned())];
    let request = form.request("stranger", 1).await;
    let answer = form.launch(&FleetRequest { tags, ..request }).await;
    let ids = ids(&answer);
    form.until_alive("other", &ids, 1).await;
    let pool = "contract".parse().expect("a name");
    let shown = form.fleet.machines(&pool).await.expect("listed");
    form.end(&ids).await;
    assert!(shown.iter().all(|it| !ids.contains(&it.id)), "{shown:?}");
}
