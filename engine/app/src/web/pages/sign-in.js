import { api } from './common.js';

const form = document.getElementById('form');
const user = document.getElementById('user');
const password = document.getElementById('password');
const problem = document.getElementById('problem');
const submit = document.getElementById('submit');

/** Where to go afterwards: a path of this server, never another place. */
function next() {
  let wanted = '/';
  try {
    wanted = decodeURIComponent(location.hash.slice(1)) || '/';
  } catch {
    // Not from us.
  }
  const url = new URL(wanted, location.origin);
  return url.origin === location.origin && wanted.startsWith('/') ? url.pathname + url.search + url.hash : '/';
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  submit.disabled = true;
  problem.hidden = true;
  try {
    await api('/api/sign-in', { body: { user: user.value, password: password.value } });
    location.replace(next());
  } catch (error) {
    problem.textContent = error.status === 401 ? 'User name or password is wrong.' : `${error.message}.`;
    problem.hidden = false;
    password.value = '';
    password.focus();
  } finally {
    submit.disabled = false;
  }
});

user.focus();
// Who follows a link from another site is signed in all the same: the cookie does not come along then, and does now.
if ((await api('/api/signed-in')).in) location.replace(next());
