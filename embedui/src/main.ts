import { mount } from 'svelte';
import App from './App.svelte';
import { texts } from './lib/text.svelte';
import './styles/tokens.css';
import './styles/base.css';

// Texts come first, so that nobody sees another language appear and go.
await texts.begin();
const app = document.getElementById('app')!;
app.replaceChildren(); // the sign that something comes
mount(App, { target: app });
