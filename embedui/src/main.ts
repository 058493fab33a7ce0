import { mount } from 'svelte';
import App from './App.svelte';
import { texts } from './lib/text.svelte';
import './styles/tokens.css';
import './styles/base.css';

// Texts come first, so that nobody sees another language appear and go.
await texts.begin();
try { sessionStorage.removeItem('nutshell.again'); } catch { /* see public/theme.js */ }
const app = document.getElementById('app')!;
app.replaceChildren(); // the sign that something comes
mount(App, { target: app });
