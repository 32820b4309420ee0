/** Our only script: tells the opener at its exact origin, then closes. What it says stands in the page's own attributes. */
export const popupScript = `const { origin, message } = document.getElementById("done").dataset;
if (window.opener) {
  window.opener.postMessage(JSON.parse(message), origin);
  window.close();
}
`;
