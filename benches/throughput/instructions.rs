//! Instructions per request, counted by callgrind. They exclude the kernel, and are nearly the same
//! in each run.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use super::World;
use super::load::Origin;
use super::proxy::Proxy;
use super::rounds::Side;

const FEW: usize = 500;
const MORE: usize = 2_500;

/// Prints the instructions of a request with and without the check, and the path of callgrind's
/// output.
pub(crate) async fn count(world: &World) -> Result<(), Box<dyn Error>> {
    let bare = per_request("bare", world).await?;
    let checked = per_request("checked", world).await?;
    println!(
        "instructions per request: bare {bare}, checked {checked}, added {}",
        checked.saturating_sub(bare)
    );
    Ok(())
}

/// Returns the difference between a long run and a short one, which excludes start and end.
async fn per_request(variant: &str, world: &World) -> Result<u64, Box<dyn Error>> {
    let few = total(variant, world, FEW).await?;
    let more = total(variant, world, MORE).await?;
    Ok(more.saturating_sub(few) / (MORE - FEW) as u64)
}

async fn total(variant: &str, world: &World, requests: usize) -> Result<u64, Box<dyn Error>> {
    let account = std::env::temp_dir().join(format!("throughput.{variant}.{requests}.callgrind"));
    let wrapper = [
        "valgrind",
        "--tool=callgrind",
        "-q",
        &format!("--callgrind-out-file={}", account.display()),
    ];
    let wrapper: Vec<String> = wrapper.map(str::to_owned).to_vec();
    let origin = Origin::start().await?;
    let people = (variant == "checked").then_some((world.keys.as_slice(), world.people.as_slice()));
    let mut side = Side::new(Proxy::start(origin.port, people, &wrapper)?).await?;
    let token = world.tokens.first().ok_or("no tokens")?;
    // Each session is verified before the connections start together, so both runs pay the same for
    // it.
    side.warm_up(&Arc::new(vec![token.clone()])).await?;
    side.warm_up(&Arc::new(vec![token.clone(); requests]))
        .await?;
    side.proxy.finish()?;
    println!("{variant}, {requests} requests: see {}", account.display());
    instructions(&account)
}

fn instructions(account: &PathBuf) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string(account)?;
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals: ")
            .or_else(|| line.strip_prefix("summary: "))
    });
    Ok(total.ok_or("callgrind wrote no total")?.trim().parse()?)
}
