use larder::{Cache, Entry};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: String,
}

#[derive(Serialize, Deserialize, Entry)]
#[entry(cache = "organization")]
struct Organization {
    #[key(primary)]
    id: String,
}

async fn look_up(instances: Cache<Instance>) {
    instances.get(Organization::ID, "42").await;
    instances.invalidate(Organization::ID, ["42"]).await.ok();
    instances.invalidate_many([Organization::ID.key("42")]).await.ok();
}

fn main() {}
