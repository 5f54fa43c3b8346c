//! What a person does, in a real Chromium.

use super::support::World;
use super::support::webdriver::Chromium;

/// Proves that a person who opens the public URL is led through Entra to a portal that says who, where and how long.
#[tokio::test(flavor = "multi_thread")]
async fn the_portal_says_who_you_are_where_and_for_how_long() {
    let world = World::start().await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.url).await;
    println!("{} {}", browser.url().await, browser.text().await);
    println!("{:?}", browser.complaints().await);
    browser.click("button[value=alice]").await;
    browser.sees("Renew").await;
    println!("{} {}", browser.url().await, browser.text().await);
    println!("{:?}", browser.complaints().await);
    println!("{:#?}", browser.answers().await);
}
